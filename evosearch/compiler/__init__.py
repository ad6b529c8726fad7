"""What a graph becomes in torch: the text of a torch-only module, and that text as a live module."""
