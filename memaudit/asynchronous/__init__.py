"""The client for asyncio. `memaudit.synchronous` is generated from it."""
