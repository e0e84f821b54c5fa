"""Masks to bytes: an encoder per codec, and the choice between them."""
