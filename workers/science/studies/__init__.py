"""What several language models found of the same texts: pairs, runs, releases. Pure functions of arrays."""
