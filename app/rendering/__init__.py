"""Documents and plots are drawn in child processes, a few at once."""
