"""What an edit forgot and what it kept."""
