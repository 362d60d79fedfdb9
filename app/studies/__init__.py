"""Routes for studies: one text set under several language models, compared."""
