"""Bytes named by their SHA-256: written whole or not at all, verified by chunk before they are given out.

The database keeps the bytes, or an object store does (a directory, an S3 bucket); the digests of the chunks
are in the database either way.
"""
