"""Quantizers that know a model's activations, and its Hessians, kept in a file from run to run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import xorpack
from benchmarks.quality.gptq import gptq
from xorpack.calibration.collect import Collector
from xorpack.files import hessians
from xorpack.files.atomic import atomic_file
from xorpack.files.hessians import Hessians

Weight = NDArray[np.float32]


def fitted(weight: Weight, hessian: NDArray[Any], **options: Any) -> tuple[Weight, float]:
    """What is decoded of a fitted and encoded weight, and the bytes of all that is stored for it."""
    encoded = xorpack.encode(xorpack.fit(weight, hessian, **options))
    return xorpack.decode(encoded).dequantize(), sum(encoded.section_bytes().values())


def gptq_of(
    weight: Weight, hessian: NDArray[Any], *, rows_hessian: NDArray[Any] | None, **options: Any
) -> tuple[Weight, float]:
    """A plain GPTQ, in which rows do not compete: what they count does not matter."""
    return gptq(weight, hessian, **options)


CALIBRATED: dict[str, Callable[..., tuple[Weight, float]]] = {"fit": fitted, "gptq": gptq_of}
"""The weight as it is decoded and its bytes, from a weight, its Hessian, what rows count, and the options."""


def hessians_of(module: torch.nn.Module, sequences: torch.Tensor, path: Path, *, guided: bool) -> Hessians:
    """Those in ``path``, which is made of the sequences if it is not there.

    Raises:
        SystemExit: they are guided and should not be, or the other way round.
    """
    if not path.exists():
        found = Collector(module, sequences, guided=guided)
        with atomic_file(path) as temporary:
            hessians.write(
                temporary,
                found.layers,
                found.sizes,
                found.matrices(),
                guided=guided,
                n_gradients=found.n_outputs,
                gradients=found.gradients,
            )
    stats = Hessians(path)
    if stats.guided is not guided:
        raise SystemExit(f"{path} is {'not ' if guided else ''}guided: all settings of a run want the same")
    return stats
