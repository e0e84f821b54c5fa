"""What the benchmark asks of a model: its linear layers, other weights for them, and how good it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.quality.score import Score
from xorpack import EncodedTensor

Weights = dict[str, NDArray[np.float32]]


class Model(ABC):
    """A torch module whose linear layers are quantized.

    ``measure``: what the score is, as rows call it, shown with ``digits``; ``goals``: the most that it may be for a
    trellis, by stored bits per weight; ``skipped``: the layer that stays as it is.
    """

    measure: ClassVar[str]
    digits: ClassVar[int] = 3
    goals: ClassVar[Mapping[int, float]] = {}
    skipped: ClassVar[str] = ""

    module: Any

    @abstractmethod
    def score(self) -> Score:
        """With the weights as they are now."""

    def calibration(self) -> torch.Tensor:
        """Tokens to calibrate with, int64 (n, length), none of which the score is of."""
        raise SystemExit(f"{type(self).__name__} has nothing to calibrate with")

    def load(self, path: Path) -> None:
        """Let the module be that of an encoded directory, decoded."""
        raise SystemExit(f"{type(self).__name__} is not read from directories")

    def tune(self, dense: Weights, encoded: Mapping[str, EncodedTensor]) -> Weights:
        """The decoded weights after a training of their scales towards the dense ones; biases may change, too."""
        raise SystemExit(f"{type(self).__name__} has nothing to train scales with")

    def weights(self) -> Weights:
        """Copies of the layers' weights, (outputs, inputs) each."""
        return {name: layer.weight.detach().numpy().copy() for name, layer in self._linear()}

    def set(self, weights: Weights) -> None:
        """Put these in the place of the layers' weights."""
        layers = dict(self._linear())
        with torch.no_grad():
            for name, weight in weights.items():
                layers[name].weight.copy_(torch.from_numpy(weight))

    def _linear(self) -> list[tuple[str, torch.nn.Linear]]:
        modules = self.module.named_modules()
        return [(n, m) for n, m in modules if isinstance(m, torch.nn.Linear) and n != self.skipped]
