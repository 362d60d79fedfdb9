"""Measurements on language models: torch and transformers only, no jobs, rows or HTTP."""
