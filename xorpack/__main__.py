"""``python -m xorpack``."""

from xorpack.cli import main

main()
