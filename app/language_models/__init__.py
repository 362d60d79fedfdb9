"""Routes for language models: register, list, read, delete."""
