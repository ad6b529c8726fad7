"""What goes with an exported layer, a file each: the card with its plot, measured costs, where it is from, how to cite it."""
