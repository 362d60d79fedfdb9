"""The route that scores a few texts in one request."""
