"""What runs beside the requests: the doorbell of the workers, the sweep, and what is removed after a time."""
