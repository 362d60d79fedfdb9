"""Routes for events: what ended and how."""
