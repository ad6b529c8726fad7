"""What a candidate is: operators, graphs, formula text, candidates. Standard library only."""
