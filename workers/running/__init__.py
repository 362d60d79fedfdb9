"""Claiming, leasing and finishing jobs."""
