"""Benchmarks: every number the project promises, beside what this machine measures. See README.md."""
