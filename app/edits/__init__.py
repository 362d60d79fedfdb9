"""Routes for edits: request, follow, cancel."""
