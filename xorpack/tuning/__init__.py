"""Encoded models trained towards the dense ones, by scales, gains, norms and biases alone; needs the extra ``[hf]``."""
