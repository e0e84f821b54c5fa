"""INT8 and float32, plane by plane: entropy of the kept weights' bits, and E."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studies import figures, patterns
from studies.table import Cell, Grid, Outcome, Params, Result, Scope, Table
from studies.weights import QUICK_MATRICES, Weights
from xorpack.analysis.bounds import binary_entropy
from xorpack.code.dense import UNSIGNED
from xorpack.code.words import unpack
from xorpack.decoders import decode
from xorpack.encoding.encoder import encode
from xorpack.encoding.quantize.pruning import magnitude_mask

SPARSITIES = (0.7, 0.9)
SHAPE = (1024, 1024)
TYPES = ("int8", "float32")
TOP = {"int8": 8, "float32": 9}
"""Upper planes whose joint entropy is counted: all of int8; sign and exponent of float32."""

PLANE_COLUMNS = ("plane", "ones, %", "H", "E, %", "stored")

BRIEF_MANTISSA = 3
"""Mantissa planes that are shown one by one on a terminal; the rest is one line."""

ABOUT = (
    "Weights pruned by magnitude, encoded losslessly as they stand, every plane by itself: float32, or int8 (w / scale "
    "rounded, scale = max |w| / 127 of the row). Normal weights have the deviation 1 / sqrt(inputs), as layers begin. "
    "Ones, entropy H and E are of the bits of kept weights. A plane that is nearly constant (upper exponent bits) is "
    "not coded: its exceptions are corrections, which count as wrong in E. Bits per kept weight, scales left "
    "out: stored = code + corrections; planes = sum of H over the planes, what coding each by itself could "
    "reach, each array by itself; joint = the same with the upper planes (all of int8; sign and exponent of "
    "float32) coded as one symbol. XOR codes spend one bit on a care bit whatever its H."
)


def plan(scope: Scope) -> list[Cell]:
    """A cell per type and sparsity of normal weights, and per matrix of the checkpoint."""
    sparsities = (0.9,) if scope.quick else SPARSITIES
    rows, cols = (512, 1024) if scope.quick else SHAPE
    cells = []
    for kind in TYPES:
        for s in sparsities:
            params = {"type": kind, "sparsity": s, "rows": rows, "cols": cols, "seeds": scope.seeds}
            cells.append(Cell(params=params, seconds=scope.seeds * rows * cols * (1.1 - s) * 3e-6))
            if scope.weights is not None:
                for name in scope.weights.some(QUICK_MATRICES if scope.quick else None):
                    own = {"type": kind, "sparsity": s, "matrix": name, "seeds": 1}
                    own["sha256"] = scope.weights.digests[name]
                    cells.append(Cell(params=own, seconds=(1.1 - s)))
    return cells


def as_int8(weight: NDArray[np.float32]) -> NDArray[np.int8]:
    """Symmetric int8 by row: ``round(w / scale)``, scale = max |w| / 127; rows of zeros stay 0."""
    scale = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
    return np.rint(weight / np.where(scale > 0, scale, 1)).astype(np.int8)


def measure(params: Params, weights: Weights | None = None) -> Result:
    """Counts for each seed, see :func:`_count`."""
    found = []
    for seed in range(params["seeds"]):
        if "matrix" in params:
            assert weights is not None
            weight = weights.load(params["matrix"])
        else:
            rng = patterns.generator("planes", seed, params["rows"], params["cols"])
            weight = rng.standard_normal((params["rows"], params["cols"]), np.float32)
            weight /= np.float32(math.sqrt(params["cols"]))
        kept = unpack(magnitude_mask(weight, params["sparsity"]), weight.shape[1])
        pruned = np.where(kept, weight, np.float32(0))
        found.append(_count(pruned if params["type"] == "float32" else as_int8(pruned), params["type"]))
    return {"samples": found}


def _count(array: NDArray[Any], kind: str) -> dict[str, Any]:
    """Ones and wrong bits of every plane, sizes in bits, and how often each upper symbol occurs."""
    encoded = encode(array, mask_codec="bitmap", field="none")
    if not np.array_equal(np.asarray(decode(encoded)), array):
        raise AssertionError("decode(encode(x)) is not x")
    bits = array.reshape(-1).view(UNSIGNED[array.dtype.itemsize])
    kept = bits[bits != 0]
    values = encoded.load_corrections().values
    zeros, ones = encoded.planes.constants
    q = encoded.bits
    symbols, counts = np.unique(kept >> (q - TOP[kind]), return_counts=True)
    one = np.uint64(1)
    return {
        "n_kept": encoded.n_kept,
        "n_weights": encoded.n_weights,
        "ones": [int(((kept >> k) & 1).sum(dtype=np.int64)) for k in range(q)],
        "wrong": [int(((values >> np.uint64(k)) & one).sum()) for k in range(q)],
        "constant": [int((zeros | ones) >> k & 1) for k in range(q)],
        "code": 8 * encoded.code.nbytes,
        "corrections": 8 * encoded.section_bytes()["corrections"],
        "symbols": {str(symbol): int(count) for symbol, count in zip(symbols, counts, strict=True)},
    }


Arrays = Sequence[Mapping[str, Any]]
"""Counts of several arrays, each by itself."""


def _sources(outcomes: Sequence[Outcome]) -> dict[tuple[str, float, str], Arrays]:
    """Counts by type, sparsity and source (normal weights, or all matrices of the checkpoint)."""
    groups: dict[tuple[str, float, str], list[Mapping[str, Any]]] = {}
    for outcome in outcomes:
        params = outcome.params
        key = params["type"], params["sparsity"], "real" if "matrix" in params else "normal"
        groups.setdefault(key, []).extend(outcome.result["samples"])
    return dict(groups)


def _total(arrays: Arrays, name: str) -> int:
    return sum(counts[name] for counts in arrays)


def _by_plane(arrays: Arrays, name: str) -> list[int]:
    return [sum(parts) for parts in zip(*(counts[name] for counts in arrays), strict=True)]


def _entropies(arrays: Arrays) -> list[float]:
    """H of each plane in bits per kept weight: each array has its own share of ones."""
    weighted = [
        [counts["n_kept"] * binary_entropy(ones / counts["n_kept"]) for ones in counts["ones"]]
        for counts in arrays
    ]
    return [math.fsum(parts) / _total(arrays, "n_kept") for parts in zip(*weighted, strict=True)]


def _joint(arrays: Arrays, kind: str) -> float:
    """Bits per kept weight, the upper planes of each array as one symbol."""
    bits = 0.0
    for counts in arrays:
        n = counts["n_kept"]
        bits -= sum(c * math.log2(c / n) for _, c in sorted(counts["symbols"].items()))
    entropies = _entropies(arrays)
    return bits / _total(arrays, "n_kept") + sum(entropies[: len(entropies) - TOP[kind]])


def plane_name(kind: str, k: int) -> str:
    """What bit ``k`` means."""
    if kind == "int8":
        return "7 (sign)" if k == 7 else str(k)
    if k == 31:
        return "31 (sign)"
    return f"{k} (exp. {k - 23})" if k >= 23 else f"{k} (mantissa)"


def _rows(arrays: Arrays, kind: str) -> list[list[str]]:
    """A row per plane, the highest first."""
    n, entropies = _total(arrays, "n_kept"), _entropies(arrays)
    ones, wrong, constants = (_by_plane(arrays, name) for name in ("ones", "wrong", "constant"))
    rows = []
    for k in reversed(range(len(entropies))):
        stored = "constant" if constants[k] else "coded"
        if 0 < constants[k] < len(arrays):
            stored = f"constant in {constants[k]} of {len(arrays)}"
        cells = f"{100 * ones[k] / n:.2f}", f"{entropies[k]:.4f}", f"{100 * (1 - wrong[k] / n):.3f}"
        rows.append([plane_name(kind, k), *cells, stored])
    return rows


def grids(outcomes: Sequence[Outcome]) -> list[Grid]:
    """Sizes of all; then the planes of each, in full and in brief."""
    sizes, details = [], []
    sources = _sources(outcomes)
    lowest = min(sparsity for _, sparsity, _ in sources)
    preferred = "real" if any(source == "real" for *_, source in sources) else "normal"
    for (kind, sparsity, source), arrays in sources.items():
        entropies = _entropies(arrays)
        n_coded = len(entropies) - sum(_by_plane(arrays, "constant")) / len(arrays)
        stored = (_total(arrays, "code") + _total(arrays, "corrections")) / _total(arrays, "n_kept")
        sizes.append(
            [
                kind,
                f"{source} ({len(arrays)})",
                f"{1 - _total(arrays, 'n_kept') / _total(arrays, 'n_weights'):.3g}",
                str(len(entropies)),
                f"{n_coded:.1f}",
                f"{stored:.3f}",
                f"{sum(entropies):.3f}",
                f"{_joint(arrays, kind):.3f}",
                f"{stored / sum(entropies):.3f}",
            ]
        )
        rows = _rows(arrays, kind)
        title = f"{kind}, {source} weights, S {sparsity:g}"
        chosen = sparsity == lowest and source == preferred
        short = _shorten(rows, kind)
        if chosen and short != rows:
            details.append(Grid(title=f"{title}, in brief", columns=PLANE_COLUMNS, rows=short))
        details.append(Grid(title=title, columns=PLANE_COLUMNS, rows=rows, brief=chosen and short == rows))
    columns = ("type", "weights", "S", "planes", "coded", "stored", "planes H", "joint", "overhead")
    notes = ["overhead: stored over planes H"]
    return [Grid(title="bits per kept weight", columns=columns, rows=sizes, notes=notes), *details]


def _shorten(rows: list[list[str]], kind: str) -> list[list[str]]:
    """All planes of int8; of float32 the lower mantissa in one row."""
    if kind == "int8":
        return rows
    head, tail = rows[: 9 + BRIEF_MANTISSA], rows[9 + BRIEF_MANTISSA :]
    means = [sum(float(row[i]) for row in tail) / len(tail) for i in (1, 2, 3)]
    texts = [f"{means[0]:.2f}", f"{means[1]:.4f}", f"{means[2]:.3f}"]
    return [*head, [f"{len(tail) - 1} to 0 (mean)", *texts, tail[0][4]]]


def draw(figure: Any, outcomes: Sequence[Outcome]) -> None:
    """Entropy of every plane, a panel per type."""
    sources = _sources(outcomes)
    lowest = min(sparsity for _, sparsity, _ in sources)
    axes = figures.panels(figure, len(TYPES))
    for ax, kind in zip(axes, TYPES, strict=True):
        shown = {key[2]: arrays for key, arrays in sources.items() if key[:2] == (kind, lowest)}
        width = 0.8 / len(shown)
        for number, (source, arrays) in enumerate(shown.items()):
            entropies = _entropies(arrays)
            at = [k + width * (number - (len(shown) - 1) / 2) for k in range(len(entropies))]
            color = figures.COLORS[number]
            ax.bar(at, entropies, width=width, color=color, label=f"{source} weights")
        figures.bound(ax, 1.0, "bound of a coded plane: one bit per care bit")
        ax.set_ylim(0, 1.1)
        ax.set_xlabel("plane" if kind == "int8" else "plane (31 sign, 30 to 23 exponent, 22 to 0 mantissa)")
        ax.set_ylabel("entropy, bits per kept weight")
        ax.set_title(f"{kind}, S {lowest:g}")
    figures.legend(figure, axes[0])


TABLE = Table(
    name="planes",
    title="Planes of INT8 and float32 weights",
    about=ABOUT,
    module=__name__,
    plan=plan,
    measure=measure,
    grids=grids,
    draw=draw,
    size=(10.0, 4.2),
)
