"""Text sets whose texts a worker fetches."""
