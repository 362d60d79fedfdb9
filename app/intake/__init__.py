"""From submitted texts to rows: formats, validation, digest and counts, for uploads and imports alike."""
