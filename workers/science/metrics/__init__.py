"""The numbers of a text that follow from its scored tokens."""
