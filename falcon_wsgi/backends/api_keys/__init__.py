"""API keys: what is kept of one, the file that holds them, and the ring that a request's key is held against."""
