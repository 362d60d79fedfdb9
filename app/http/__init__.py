"""What all routes share: keys, problems, pages, bodies, waiting, measuring."""
