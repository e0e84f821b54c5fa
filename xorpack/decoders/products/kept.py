"""The mask of a tensor that is multiplied by."""

from __future__ import annotations

from xorpack.code.words import Words
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError
from xorpack.masks import Constant


class Kept:
    """A tensor's mask by rows: held at one bit per weight, or made when asked for where all are alike.

    ``whole``: nothing is pruned.
    """

    def __init__(self, encoded: EncodedTensor, jobs: int) -> None:
        self._encoded = encoded
        self._words: Words | None = None
        self.whole = encoded.n_kept == encoded.n_weights
        if not isinstance(encoded.mask, Constant):
            self._words = cpu.load_mask(encoded, jobs=jobs)
        elif encoded.n_kept != encoded.mask.value * encoded.n_weights:
            raise FormatError(
                f"the mask keeps {encoded.mask.value * encoded.n_weights} weights, not {encoded.n_kept}"
            )

    def rows(self, first: int, last: int) -> Words:
        """Words of rows ``first .. last - 1``: uint32 (rows, chunks)."""
        if self._words is None:
            return cpu.load_mask(self._encoded, first, last)
        return self._words[first:last]
