"""Bytes on disk: safetensors, the container of encoded tensors, model directories, atomic writes, selection by name."""
