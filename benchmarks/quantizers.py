"""Other quantizers that run on a CPU, as the benchmark of distortion sees them; none of them need be installed.

Each counts the bits that its format needs: scales and zero points as float16, 3-bit values as 3 bits, whatever its own
memory pads them to.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weight = NDArray[np.float32]

Stored = tuple[float, Weight]
"""Bits in all, and the weights that they stand for."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to quantize: ``level`` is the peer's name for its size; of one level, the best setting counts."""

    level: str
    about: str
    run: Callable[[Weight], Stored]


@dataclass(frozen=True, slots=True)
class Peer:
    """A package: what pip calls it, what is imported, its settings."""

    name: str
    modules: tuple[str, ...]
    settings: Callable[[], Iterator[Setting]]

    @property
    def missing(self) -> str | None:
        """What is not installed, or None."""
        return next((m for m in self.modules if importlib.util.find_spec(m) is None), None)


def entropack(weight: Weight, rate: float) -> Stored:
    """EntroPack at ``rate`` bits: E8 lattice and rANS on its own CPU path, its searches at their widest."""
    import entropack as package

    config = package.EntroPackLossyConfig(
        target_bpp=rate, execution_backend="eager", row_rdo_iterations=3, row_rdo_candidates=9
    )
    packed = package.compress(_tensor(weight), config)
    return packed.actual_bpp * weight.size, package.decompress(packed, config).numpy()


def hqq(bits: int, group: int, axis: int) -> Callable[[Weight], Stored]:
    """Half-quadratic quantization, its own default search."""

    def run(weight: Weight) -> Stored:
        import torch
        from hqq.core.quantize import Quantizer

        codes, meta = Quantizer.quantize(
            _tensor(weight),
            nbits=bits,
            group_size=group,
            axis=axis,
            device="cpu",
            compute_dtype=torch.float32,
        )
        found = Quantizer.dequantize(codes, meta).float().numpy()
        return weight.size * (bits + 32 / group), found.reshape(weight.shape)

    return run


def _torchao(bits: int, group: int) -> Callable[[Weight], Stored]:
    def run(weight: Weight) -> Stored:
        import torch
        from torchao.quantization import IntxWeightOnlyConfig, quantize_
        from torchao.quantization.granularity import PerGroup

        layer: Any = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight.data = _tensor(weight)
        config = IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, f"int{bits}"),
            granularity=PerGroup(group),
            intx_choose_qparams_algorithm="hqq_scale_only",
        )
        quantize_(layer, config)
        return weight.size * (bits + 16 / group), layer.weight.dequantize().detach().float().numpy()

    return run


def gguf_type(name: str) -> Callable[[Weight], Stored]:
    """One of gguf's types, a name like Q4_0."""

    def run(weight: Weight) -> Stored:
        import gguf

        kind = gguf.GGMLQuantizationType[name]
        rows = weight.reshape(-1, 256)  # whole blocks, whatever the matrix's width
        codes = gguf.quants.quantize(rows, kind)
        return 8.0 * codes.nbytes, gguf.quants.dequantize(codes, kind).reshape(weight.shape)

    return run


def _tensor(weight: Weight) -> Any:
    import torch

    torch.set_num_threads(2)
    return torch.from_numpy(weight.copy())


def _hqq_settings() -> Iterator[Setting]:
    for bits in (2, 3, 4):
        for group in (64, 128):
            yield Setting(f"{bits}-bit", f"groups of {group}, axis 1", hqq(bits, group, 1))


def _torchao_settings() -> Iterator[Setting]:
    for bits in (2, 3, 4):
        for group in (32, 128):
            yield Setting(f"int{bits}", f"groups of {group}, hqq_scale_only", _torchao(bits, group))


def _gguf_settings() -> Iterator[Setting]:
    for name in ("TQ2_0", "Q4_0", "Q4_1", "Q5_0"):
        yield Setting(name, "the package's own Python", gguf_type(name))


ENTROPACK = Peer("entropack", ("torch", "entropack"), lambda: iter(()))
"""Takes any rate: it is run at ours."""

PEERS: Sequence[Peer] = (
    Peer("hqq", ("torch", "hqq"), _hqq_settings),
    Peer("torchao", ("torch", "torchao"), _torchao_settings),
    Peer("gguf", ("gguf",), _gguf_settings),
)
"""Those of a few sizes: ours is run at theirs, or below. gguf only reads k-quants in Python: they are left out."""
