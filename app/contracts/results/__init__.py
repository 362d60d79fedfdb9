"""What workers find, as it is stored and answered."""
