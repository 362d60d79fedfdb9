"""What work would take, before it is asked for."""
