"""From a dense model and a text to a compressed model and what it loses, in one go."""

from xorpack.compression.run import CompressReport, compress_checkpoint

__all__ = ["CompressReport", "compress_checkpoint"]
