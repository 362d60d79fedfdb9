"""Routes for policies: what is asked of audits, studies and edits, written down."""
