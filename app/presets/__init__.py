"""Routes for presets: which published language models and data sets can be audited by name."""
