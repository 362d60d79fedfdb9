"""The pages that people read in a browser: server-rendered, at `/`, with everything they load from here."""
