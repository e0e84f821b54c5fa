"""Weights fitted to activations: the error that counts is the one of a layer's output."""
