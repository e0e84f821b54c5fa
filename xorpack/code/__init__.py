"""The vocabulary of a file: bit order, order of coding, networks, coded planes, corrections, and how they expand."""
