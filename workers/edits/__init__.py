"""Edits: inputs, methods, evaluation, checkpoint, documents, commit."""
