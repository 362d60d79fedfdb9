"""Passages of long documents that a language model recalls, and near-verbatim recitation of one suffix."""
