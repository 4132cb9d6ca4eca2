"""What is derived from the catalogue and written to files: `flowmetrics generate WHAT`."""
