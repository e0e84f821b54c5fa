"""The GPU decoder: correctness on the device, then speed. ``python -m benchmarks.gpu``."""
