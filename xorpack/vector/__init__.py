"""Bit counts, SIMD vectors and threads: what the kernels of every wing are made of."""
