"""`make chaos`: a mixed load under random faults, of which nothing may be lost, doubled or wrong."""
