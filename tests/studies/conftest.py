"""The studies are no part of the package: they are found in the clone."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # last, so that xorpack is still the one that is installed
