"""The metrics of audits: a file for each says what it answers, the registry names them."""
