"""What every table and statement stands on."""
