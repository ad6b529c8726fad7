"""What a graph means, without torch: values, derivatives, symbols, facts, and the driver's own verdicts."""
