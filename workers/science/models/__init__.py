"""Checkpoints, tokens and weights."""
