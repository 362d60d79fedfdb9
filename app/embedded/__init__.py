"""The embedded default: a real Postgres, a real Redis, a worker and the API under one supervisor."""
