"""Routes for tenants and their API keys."""
