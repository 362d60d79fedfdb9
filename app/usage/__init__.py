"""What a tenant uses against its limits."""
