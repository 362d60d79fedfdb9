"""The methods that K-FAC is compared with."""
