"""Routes for audits: request, follow, cancel, read the scores."""
