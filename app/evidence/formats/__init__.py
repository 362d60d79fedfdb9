"""The formats of evidence: a module here with a `FORMAT` is one, and nothing else need know of it."""
