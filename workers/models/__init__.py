"""Language models on a worker: validated, found on disk, kept in memory."""
