"""One module for each thing that there is a page of."""
