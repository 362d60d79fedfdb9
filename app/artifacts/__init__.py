"""Routes for artifacts: manifests, files, archives, and the same files as a Hugging Face hub serves them."""
