"""Calibration: which texts a language model memorized, told by texts that it never saw.

Needs numpy, scipy and scikit-learn, never torch: a worker of the queue `cpu` does it. scikit-learn takes seconds
to import, so that jobs import this package where they run.
"""
