"""The report on a trained suite: HUBBLE's tables (arXiv 2510.19811) with intervals, and a plot of each."""
