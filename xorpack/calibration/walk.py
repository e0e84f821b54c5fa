"""A model that runs once while its layers are compressed: each makes up for what those before it have done.

All sequences go through the model together, and twice: in the first half of the batch as the dense model has them, in
the second as the compressed one. When a linear layer is reached, both inputs are known, ``x`` and ``x~``, and its
weight is replaced for the second half before the run goes on. The squared error of ``V x~`` against what the dense
layer gives, ``W x``, is least with ``V = W'``, ::

    W' = W + W R (H + damping)^-1,  R = sum of (x - x~) x~^T / |x|^2,  H = sum of x~ x~^T / |x|^2,

so the fit is to ``W'`` in the place of W (GPTAQ's asymmetric calibration, arXiv 2504.02692). Tokens count alike here,
however large they are, but for the first of each sequence, which counts as :data:`FIRST` of it: all others attend to
it, some layer makes it a hundred times as large as they are for that, and a model in which it fails to is lost. What
the fit counts errors by stays as the statistics have it: that alone to be of inputs behind compressed layers brought
nothing (docs/quality.md).
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Collection

import numpy as np
import torch
from numpy.typing import NDArray

from xorpack.errors import DataError

TOKENS = 16_384
"""Tokens that should go through a model together, at the most: what a block makes of them is held, twice."""

DAMPING = 0.03
"""Share of the mean of a diagonal that is added to it: of .01 to .1, all alike."""

FIRST = 0.03
"""What the first token of a sequence counts, of all of them."""

TINY = 1e-30
"""Energy of an input that is 0, which is no divisor."""

Fit = Callable[[str, NDArray[np.float32]], NDArray[np.float32] | None]
"""Compresses a weight by its name, towards another: what is decoded of it, or None where it stays as it is."""


class _EndError(Exception):
    """The last layer that is compressed was reached: the rest of the model need not run."""


class ModelWalk:
    """A model and the tokens that go through it."""

    def __init__(self, model: torch.nn.Module, sequences: torch.Tensor) -> None:
        """Take a model in the state of evaluation, and tokens, int64 (n, length)."""
        self._model, self._sequences = model, sequences

    @property
    def digest(self) -> str:
        """Of the tokens."""
        return hashlib.sha256(self._sequences.numpy().tobytes()).hexdigest()

    def __call__(self, names: Collection[str], fit: Fit) -> None:
        """Run the model and compress those of ``names`` that are weights of linear layers, as it reaches them.

        Those that it does not reach, or whose inputs are not rows of the batch, as those of experts, are left out.

        Raises:
            DataError: NaN or infinity in what a layer is given.
        """
        wanted = {
            name: module
            for name, module in self._model.named_modules()
            if isinstance(module, torch.nn.Linear) and f"{name}.weight" in names
        }
        passing = _Passing(fit, 2 * len(self._sequences), set(wanted))
        hooks = [
            module.register_forward_hook(
                lambda module, args, out, name=name: passing(name, module, args[0], out)
            )
            for name, module in wanted.items()
        ]
        device = next(self._model.parameters()).device
        takes = inspect.signature(self._model.forward).parameters
        options = (
            {"use_cache": False} if "use_cache" in takes else {}
        )  # it would hold keys and values of all blocks
        try:
            with torch.no_grad():
                self._model(torch.cat([self._sequences] * 2).to(device), **options)
        except _EndError:
            pass
        finally:
            for hook in hooks:
                hook.remove()


class _Passing:
    """One run: what was compressed, and the last input with the correction that is for it."""

    def __init__(self, fit: Fit, n_rows: int, left: set[str]) -> None:
        self._fit, self._n_rows, self._left = fit, n_rows, left
        self._weights: dict[str, torch.Tensor] = {}
        self._input: torch.Tensor | None = None
        self._correction: torch.Tensor | None = None

    def __call__(self, name: str, layer: torch.nn.Linear, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """What the layer gives out, of the second half of the batch by the weight in its place."""
        if len(x) != self._n_rows or x.dim() < 3:
            return out
        if name not in self._weights:
            self._weights[name] = self._replace(name, layer, x)
        half = self._n_rows // 2
        out[half:] = torch.nn.functional.linear(x[half:], self._weights[name], layer.bias)
        self._left.discard(name)
        if not self._left:
            raise _EndError
        return out

    def _replace(self, name: str, layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        if x is not self._input:  # projections of one input share the correction
            self._input, self._correction = x, _correction(name, x)
        assert self._correction is not None
        target = layer.weight + layer.weight @ self._correction
        decoded = self._fit(f"{name}.weight", target.float().cpu().numpy())
        return layer.weight if decoded is None else torch.from_numpy(decoded).to(layer.weight)


def _correction(name: str, x: torch.Tensor) -> torch.Tensor:
    """``R (H + damping)^-1`` of a layer's inputs, the dense model's and the compressed one's."""
    dense, given = x.chunk(2)
    if not torch.isfinite(given).all():
        raise DataError(f"layer {name!r} is given NaN or infinity when those before it are compressed")
    size = dense.square().sum(-1, keepdim=True).clamp_min(TINY).sqrt()
    size[:, 0] /= max(1, FIRST * x.shape[1]) ** 0.5
    lost, given = ((each / size).flatten(0, -2) for each in (dense - given, given))
    h, r = (given.T @ given).double(), (lost.T @ given).double()
    h.diagonal().add_(DAMPING * h.diagonal().mean() + TINY)
    found: torch.Tensor = torch.linalg.solve(h, r.T).T
    return found.to(x.dtype)
