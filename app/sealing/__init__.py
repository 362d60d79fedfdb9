"""Texts and secrets at rest: master keys, the keys that they wrap, and what those seal."""
