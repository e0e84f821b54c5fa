"""Weights to code: pruning, quantization, the choice of masks and fields, and the elimination that finds code."""
