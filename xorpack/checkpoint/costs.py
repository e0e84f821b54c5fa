"""What errors of each tensor cost a model whose activations and gradients are known, in nats of its loss.

A tensor that is fitted to activations loses, for errors ``e_r`` of its rows, ``sum_r g_r e_r H e_r^T / 2`` nats a
token, with ``g`` the mean squared gradient of the loss by each output and ``H`` the sum of ``x x^T`` over the tokens,
by their number. A sweep with feedback makes that ``sum_r g_r sum_j d_j e_rj^2 / 2`` with the pivots d of H, and the
squared error of a weight is the share D of its square that the rate allows. (Errors that are fed back are quantized in
their turn, which makes it D (1 + D).) So the costs of tensors differ by constants, foretold without any fit: of four
layers of SmolLM2 fits lost .82 to .97 of that, at .5 to 4 bits. Errors that count relative to their outputs' energies,
without gradients, are no guide: rates by them are worse than a uniform one (docs/quality.md).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from xorpack.encoding.fitting.hessian import believed, pivots
from xorpack.files.hessians import Hessians
from xorpack.files.safetensors_file import StoredTensor
from xorpack.tensors import as_matrix


def costs(tensors: Mapping[str, StoredTensor], stats: Hessians, jobs: int = 1) -> dict[str, float]:
    """What a squared error as large as the squares would cost in each tensor, in nats of a token.

    Tensors of which nothing is known cost by the weight what the others do on average; where nothing is known of any,
    every weight costs 1.
    """
    known = [name for name in tensors if name in stats and stats.gradients(name) is not None]
    n_tokens = max((stats.rows(name) for name in known), default=1)
    keys = {stats.key(name): name for name in known}

    def pivot(name: str) -> NDArray[np.float64]:
        return pivots(believed(stats[name], stats.rows(name)))

    with ThreadPoolExecutor(jobs) as pool:
        found = dict(zip(keys, pool.map(pivot, keys.values()), strict=True))
    foretold = {
        name: _cost(tensors[name], stats.gradients(name), found[stats.key(name)] / n_tokens) for name in known
    }
    if not sum(foretold.values()) > 0:
        return {name: float(_size(tensors, [name])) for name in tensors}
    each = sum(foretold.values()) / _size(tensors, known)
    return {name: foretold.get(name, each * _size(tensors, [name])) for name in tensors}


def _cost(stored: StoredTensor, gradients: NDArray[np.float32] | None, pivot: NDArray[np.float64]) -> float:
    assert gradients is not None
    squares = stored.array().reshape(as_matrix(stored.shape)).astype(np.float64) ** 2
    return float(gradients.astype(np.float64) @ squares @ pivot) / 2


def _size(tensors: Mapping[str, StoredTensor], names: Collection[str]) -> int:
    return sum(math.prod(tensors[name].shape) for name in names)
