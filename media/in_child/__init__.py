"""What children of the sandbox run: decoding, with its libraries imported before any limit of memory counts."""
