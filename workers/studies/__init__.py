"""Studies: the audits of several language models on the same texts, compared."""
