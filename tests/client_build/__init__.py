"""Writes the generated modules of the client: `make client-types` writes, `make client-check` compares."""
