"""Small families of models trained with controlled insertions, after HUBBLE (arXiv 2510.19811)."""
