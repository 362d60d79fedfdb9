"""Leased jobs: their rows, how they are claimed and swept."""
