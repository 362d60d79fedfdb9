"""Routes for gates: policies that judge audits, studies and edits."""
