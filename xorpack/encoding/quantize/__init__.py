"""Weights to planes: which weights are kept, and the codes and scales of those."""
