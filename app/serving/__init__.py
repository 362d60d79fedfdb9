"""The server below the application: connections, and what it reads and waits for on each."""
