"""Products of others at batch 1, of those that are installed: PyTorch's int4 and 2:4, gemlite, hqq.

Random weights of each one's own format; its product is compared with the dense one of what it stores. Without a
graph, many launches at a time, as their users run them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks.gpu.products import Bench
from benchmarks.measure import Checks, Row

REPEATS = 20
GROUP = 128
TOLERANCE = 0.03
"""Largest error beside the largest output, of 16-bit formats."""

Peer = Callable[[Any, int, int], tuple[Callable[[Any], Any], Any, Any]]
"""``(torch, rows, cols)`` to a product, the dense weight that it is of (float32), and the type of activations."""


def int4(torch: Any, rows: int, cols: int) -> tuple[Callable[[Any], Any], Any, Any]:
    """PyTorch's tinygemm: 4 bits, bfloat16 scales and zeros of groups of 128."""
    levels = torch.randint(0, 16, (rows, cols), dtype=torch.int32, device="cuda")
    bytes_ = (levels[:, ::2] << 4 | levels[:, 1::2]).to(torch.uint8)
    packed = torch.ops.aten._convert_weight_to_int4pack(bytes_, 8)
    scales = (0.01 * (0.5 + torch.rand(rows, cols // GROUP, device="cuda"))).to(torch.bfloat16)
    both = torch.stack([scales, torch.zeros_like(scales)], dim=2).transpose(0, 1).contiguous()
    dense = (levels - 8).float() * scales.float().repeat_interleave(GROUP, dim=1)
    return lambda x: torch.ops.aten._weight_int4pack_mm(x, packed, GROUP, both), dense, torch.bfloat16


def two_of_four(torch: Any, rows: int, cols: int) -> tuple[Callable[[Any], Any], Any, Any]:
    """PyTorch's 2:4 sparsity by cuSPARSELt or CUTLASS, float16 values."""
    dense = 0.02 * torch.randn(rows, cols, device="cuda", dtype=torch.float16)
    dense.view(rows, cols // 4, 4)[:, :, 2:] = 0
    sparse = torch.sparse.to_sparse_semi_structured(dense)
    return lambda x: torch.nn.functional.linear(x, sparse), dense.float(), torch.float16


def gemlite(torch: Any, rows: int, cols: int) -> tuple[Callable[[Any], Any], Any, Any]:
    """gemlite: 2 bits, float16 scales and zeros of groups of 128."""
    core = importlib.import_module("gemlite.core")
    levels = torch.randint(0, 4, (rows, cols), dtype=torch.uint8, device="cuda")
    scales = (0.01 * (0.5 + torch.rand(rows, cols // GROUP, device="cuda"))).to(torch.float16)
    zeros = torch.full_like(scales, 1.5)
    layer = core.GemLiteLinear(
        2, GROUP, cols, rows, input_dtype=core.DType.FP16, output_dtype=core.DType.FP16
    )
    flat = scales.reshape(-1, 1), zeros.reshape(-1, 1)
    layer.pack(levels, *flat, None)
    dense = (levels.float() - 1.5) * scales.float().repeat_interleave(GROUP, dim=1)
    return layer, dense, torch.float16


def hqq(torch: Any, rows: int, cols: int) -> tuple[Callable[[Any], Any], Any, Any]:
    """hqq: 4 bits in groups of 64, its own backend."""
    quantize = importlib.import_module("hqq.core.quantize")
    linear = torch.nn.Linear(cols, rows, bias=False, dtype=torch.float16, device="cuda")
    config = quantize.BaseQuantizeConfig(nbits=4, group_size=64)
    layer = quantize.HQQLinear(linear, config, compute_dtype=torch.float16, device="cuda")
    return layer, layer.dequantize().float().reshape(rows, cols), torch.float16


PEERS: Mapping[str, Peer] = {
    "PyTorch int4": int4,
    "PyTorch 2:4": two_of_four,
    "gemlite, 2 bits": gemlite,
    "hqq, 4 bits": hqq,
}


def run(bench: Bench, rows: int, cols: int) -> Iterator[Row]:
    """A row for each peer; one that is missing or fails says so."""
    for name, peer in PEERS.items():
        what = f"{name}, batch 1, {rows} x {cols}, no graph"
        try:
            torch = importlib.import_module("torch")
            if not torch.cuda.is_available():
                raise RuntimeError("this PyTorch sees no GPU")
            samples = _time(bench, torch, *peer(torch, rows, cols))
        except Exception as error:
            yield Row(
                what=what, note=f"not run: {type(error).__name__}: {' '.join(str(error).split())[:120]}"
            )
            continue
        yield Row(what=what, samples=[1e6 * s for s in samples], unit="us", digits=1)
        torch.cuda.empty_cache()


def _time(bench: Bench, torch: Any, product: Callable[[Any], Any], dense: Any, dtype: Any) -> list[float]:
    stream = torch.cuda.ExternalStream(bench.timer.stream.ptr)
    x = torch.randn(1, dense.shape[1], device="cuda").to(dtype)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream), torch.inference_mode():
        y, wanted = product(x).float(), x.float() @ dense.T
        error = float((y - wanted).abs().max() / wanted.abs().max())
    stream.synchronize()
    Checks.require(
        error <= TOLERANCE, f"its product differs from the dense one by {error:.3g} of the largest"
    )
    del dense, wanted

    def call(_: Any) -> None:
        with torch.cuda.stream(stream), torch.inference_mode():
            product(x)

    return bench.timer.seconds([call] * REPEATS, graph=False)
