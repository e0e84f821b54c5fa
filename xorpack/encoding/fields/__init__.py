"""Which bits of lossless elements get a prefix code, and which code."""
