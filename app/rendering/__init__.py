"""Documents and plots are drawn in child processes: for the API a few at once, for an edit in one."""
