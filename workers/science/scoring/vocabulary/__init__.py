"""What is read off the output projection, tile by tile of the vocabulary."""
