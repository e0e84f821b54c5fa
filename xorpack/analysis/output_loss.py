"""What quantized weights lose where it is felt: in the outputs of their layer, and in the loss of the model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

A_BIT = 0.75
"""Share of an error that a bit more for each weight takes away: one falls by 6 dB."""


@dataclass(frozen=True, slots=True)
class OutputLoss:
    """Errors of a tensor's outputs on what the layer was given in calibration.

    Attributes:
        error, energy: squared error, and squares, of the outputs, per token.
        nats: what the error costs, to second order: nats of the loss, per token; None where no gradients are known.
        n_kept: weights that a bit more would be given to.
    """

    error: float
    energy: float
    nats: float | None
    n_kept: int

    @classmethod
    def of(
        cls,
        weight: NDArray[Any],
        decoded: Iterable[NDArray[np.float32]],
        hessian: NDArray[np.float32],
        gradients: NDArray[np.float32] | None,
        n_tokens: int,
        n_kept: int,
    ) -> OutputLoss:
        """Compare a weight with what is decoded of it.

        Args:
            weight: (rows, cols), of any float type.
            decoded: float32 blocks of rows, which follow one another.
            hessian: (cols, cols), the sum of ``x x^T``.
            gradients: (rows,), the mean squared gradient of the loss by each output.
            n_tokens: of the text that the sum is over.
            n_kept: weights that are not pruned.
        """
        error = energy = nats = 0.0
        begin = 0
        for block in decoded:
            w = weight[begin : begin + len(block)].astype(np.float32)
            e = w - block
            rows = np.einsum("rc,rc->r", e @ hessian, e).astype(np.float64) / n_tokens
            error += float(rows.sum())
            energy += float(np.vdot(w @ hessian, w)) / n_tokens
            if gradients is not None:
                nats += float(rows @ gradients[begin : begin + len(block)].astype(np.float64)) / 2
            begin += len(block)
        return cls(error, energy, None if gradients is None else nats, n_kept)

    @classmethod
    def total(cls, parts: Iterable[OutputLoss]) -> OutputLoss:
        """Several tensors together; the error is then relative to all outputs' squares."""
        found = list(parts)
        known = [part.nats for part in found if part.nats is not None]
        return cls(
            error=sum(part.error for part in found),
            energy=sum(part.energy for part in found),
            nats=sum(known) if known else None,
            n_kept=sum(part.n_kept for part in found),
        )

    @property
    def relative(self) -> float:
        """Squared error over squares; 0 where there is no output."""
        return self.error / self.energy if self.energy else 0.0

    @property
    def gain(self) -> float | None:
        """Nats of the loss that a bit more for each weight would gain, for each megabyte that it takes."""
        return None if self.nats is None else A_BIT * self.nats / max(self.n_kept / 8e6, 1e-12)

    def as_dict(self) -> dict[str, Any]:
        """All of it."""
        return {
            "relative_squared_error": self.relative,
            "nats": self.nats,
            "gain_of_a_bit_nats_per_mb": self.gain,
        }
