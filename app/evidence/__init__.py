"""Documents about finished work that other tools read: one record, one file a format."""
