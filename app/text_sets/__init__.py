"""Routes for text sets: upload, list, read, erase."""
