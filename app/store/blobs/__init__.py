"""Content-addressed bytes: rows, chunks, objects, and their collection."""
