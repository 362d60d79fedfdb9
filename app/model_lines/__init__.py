"""Routes for model lines: versions of a language model, each judged when it is registered."""
