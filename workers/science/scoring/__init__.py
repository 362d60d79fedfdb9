"""Likelihoods and recitation in one forward pass."""
