"""What is found by asking the model more than the one forward pass: other prompts, windows, decoding."""
