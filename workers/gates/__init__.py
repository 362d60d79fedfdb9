"""Gates: what the rules of a policy ask for, observed of a subject."""
