"""K-FAC factors, spectra and the search over them."""
