"""Prefix-coded fields of lossless elements: what one is, and how its symbols are decoded."""
