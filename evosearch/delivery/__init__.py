"""What leaves: exported layers, tables, summaries."""
