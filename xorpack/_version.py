"""The version of xorpack: its only source, which the build reads too."""

__version__ = "0.3.0.dev0"
