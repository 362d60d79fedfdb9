"""Celery workers: they claim jobs from the store and run the science."""
