"""Routes for the audit trail."""
