"""Edits: inputs, methods, evaluation, documents, commit."""
