"""What a report says about finished work, as one structure that HTML and PDF both render."""
