"""Audits: planned, scored, summarised."""
