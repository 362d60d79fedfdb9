"""Signing what this instance says: its Ed25519 keys, envelopes, and receipts of erasure."""
