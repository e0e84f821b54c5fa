"""The goals on a GPU, as rows that wait: a run of ``python -m benchmarks.gpu`` replaces their themes."""

from __future__ import annotations

from fractions import Fraction

from benchmarks.gpu.cases import CASES, TRELLIS
from benchmarks.measure import Row

NOTE = "not measured: no GPU was at hand"
LEAST_256 = 1 / 1.2
"""Speed at batch 256 over cuBLAS fp16, on compute capability 9.0."""
CSR = "cuSPARSE CSR (float32 values, 32-bit columns)"


def unmeasured() -> dict[str, list[Row]]:
    """The goals by theme, as the run names them."""
    large = CASES[0].name
    exact = "decode bit-identical, products within float32 rounding, runs identical"
    products = [
        row
        for case in CASES[:6]
        for row in (
            _over(f"binary over cuBLAS fp16, batch 1, {case.name}", case.at_least),
            _over(f"binary over cuBLAS fp16, batch 8, {case.name}", case.at_least_8),
        )
    ]
    products += [
        _over(f"wide over cuBLAS fp16, batch 256, {name}", LEAST_256) for name in (large, TRELLIS[0].name)
    ]
    products += [_over(f"binary over {CSR}, batch 1, {case.name}", 3) for case in CASES[2:6]]
    for each in TRELLIS[:4]:
        products.append(_over(f"binary over cuBLAS fp16, batch 1, {each.name}", each.at_least))
        products.append(_over(f"binary over cuBLAS fp16, batch 8, {each.name}", each.at_least_8))
    words = f"decode_words, bytes written, {large}"
    return {
        "correctness": [Row(what=exact, at_least=100, unit="%", note=NOTE)],
        "first call": [
            Row(what=first_call(codec), at_most=3, unit="s", note=NOTE) for codec in ("bitmap", "block")
        ],
        "products": products,
        "a stack of layers": [Row(what=stack(rate), unit="x", note=NOTE) for rate in map(Fraction, (2, 1))],
        "encoding": [Row(what=search(2.0, 12), at_least=100, unit="M weights/s", note=NOTE)],
        "decoding": [Row(what=words, at_least=50, unit="% of the copy bandwidth", note=NOTE)],
    }


def first_call(codec: str) -> str:
    """Name of a row."""
    return f"compilation of the first matvec, mask {codec}"


def search(rate: float, window: int) -> str:
    """Name of a row."""
    return f"search of stored bits, trellis R {rate:g}, L {window}"


def stack(rate: Fraction) -> str:
    """Name of a row."""
    return f"linear layers of a Llama of 8 G, batch 1, trellis R {rate} over cuBLAS fp16"


def _over(what: str, least: float | None) -> Row:
    return Row(what=what, at_least=least, unit="x", note=NOTE)
