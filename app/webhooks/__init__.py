"""Webhooks: where tenants are told of events, the outbox that it goes through, and how it is sent."""
