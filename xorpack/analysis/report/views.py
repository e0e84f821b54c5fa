"""A report as tables of text, which every format for people prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from xorpack.analysis.accounting import PAYLOAD as PAYLOAD_PARTS
from xorpack.analysis.comparison import OURS, Comparison
from xorpack.analysis.formats import FormatTable
from xorpack.analysis.report.contents import Options, Report, TensorReport
from xorpack.analysis.report.tensor_table import tensors
from xorpack.analysis.report.view import View, bound, count, times
from xorpack.analysis.tables import by_reason, mebibytes, octets
from xorpack.encoded import SECTIONS

PAYLOAD = "= payload"
ENCODED = "= encoded tensors"
ALL = "= all files"
PARTS_COLUMNS = ("part", "size", "% of files", "bits/weight", "bound", "overhead")
PARTS_NOTE = (
    "Overhead is size / bound. The mask's bound is its entropy, rows and columns modelled; "
    "scales count as they are."
)


def headline(report: Report) -> Iterator[str]:
    """What it is, in a few lines."""
    yield from _checkpoint(report)
    if (quality := report.quality) is not None:
        dense = "" if quality.dense is None else f"; of the dense model: {quality.dense:.2f}"
        yield f"perplexity {quality.perplexity:.2f} on {quality.n_tokens:,} tokens of {quality.text}{dense}"


def _checkpoint(report: Report) -> Iterator[str]:
    total = report.total
    n_files = f"{report.n_files} file{'s' if report.n_files > 1 else ''}"
    if report.kind == "plain":
        exact = report.exact
        n, kept = (exact.n_weights, exact.n_kept) if exact else (total.n_weights, total.n_kept)
        size = f"{mebibytes(report.total_bytes)}, {count(report.n_parameters)} parameters"
        yield f"{report.path}: a plain checkpoint, {n_files}, {size}"
        zeros = 100 * (1 - kept / n) if n else 0.0
        yield f"{len(report.tensors)} tensors of {count(n)} weights could be encoded; {zeros:.2f} % of those are 0"
        return
    variants = " and ".join(report.formats) or "no tensors"
    yield f"{report.path}: encoded, {n_files}, {mebibytes(report.total_bytes)} (was {mebibytes(report.source_bytes)})"
    yield (
        f"{len(report.tensors)} encoded tensors ({variants}) of {count(total.n_weights)} weights, "
        f"{100 * total.sparsity:.2f} % pruned: {mebibytes(total.original_bytes)} -> {mebibytes(total.n_bytes)}, "
        f"{times(total.original_bytes, total.n_bytes)} smaller"
    )
    yield (
        f"{total.per_weight(total.n_bytes):.4f} bits per weight; the bound is {bound(total):.4f}"
        + ("" if total.total_overhead is None else f", overhead {total.total_overhead:.3f}")
        + octets(total.n_octets)
    )


def views(report: Report, options: Options) -> Iterator[View]:
    """All tables of a report, the most telling first."""
    yield parts(report)
    for label, table in report.formats.items():
        yield formats(label, table)
    for label, found in report.comparison.items():
        yield comparison(label, found)
    if report.becoming:
        yield becoming(report)
    yield tensors(report, options)
    if any(found.why for found in report.carried):
        yield carried(report)
    wide = [t for t in report.tensors if t.planes is not None and len(t.planes.planes) > 8]
    if wide:
        yield planes(wide)


def parts(report: Report) -> View:
    """Say where the bytes are."""
    total, by_name = report.total, {part.name: part.n_bytes for part in report.parts}
    everything = max(report.total_bytes, 1)

    def row(name: str, n_bytes: int, bits: bool, bound_bits: float | None = None) -> tuple[str, ...]:
        per_weight = f"{total.per_weight(n_bytes):.4f}" if bits and total.n_weights else ""
        limit = "" if bound_bits is None else f"{total.per_weight(bound_bits / 8):.4f}"
        over = "" if not bound_bits else f"{8 * n_bytes / bound_bits:.3f}"
        return name, mebibytes(n_bytes), f"{100 * n_bytes / everything:.1f}", per_weight, limit, over

    rows = []
    for name, n_bytes in by_name.items():
        encoded = report.kind == "encoded" and name in (*SECTIONS, "metadata")
        rows.append(row(name, n_bytes, encoded, total.mask_bound_bits if name == "mask" else None))
        if name == PAYLOAD_PARTS[-1]:
            rows.append(row(PAYLOAD, total.payload_bytes, True, total.payload_bound_bits))
        if name == "metadata" and report.kind == "encoded":
            rows.append(row(ENCODED, total.n_bytes, True, bound(total) * total.n_weights))
    n_columns = len(PARTS_COLUMNS) if report.kind == "encoded" else 3
    return View(
        key="parts",
        title="Where the bytes are",
        columns=PARTS_COLUMNS[:n_columns],
        rows=[r[:n_columns] for r in rows if r[0] in (PAYLOAD, ENCODED) or by_name.get(r[0])],
        total=row(ALL, report.total_bytes, False)[:n_columns],
        note=PARTS_NOTE if report.kind == "encoded" else "",
        optional=("% of files",),
    )


def formats(label: str, table: FormatTable) -> View:
    """Sizes in other formats."""
    ours = table.rows[0]
    return View(
        key=f"formats-{label}",
        title=f"The same weights in other formats, {label}",
        columns=("format", "bits/weight", "size", "against ours", "formula"),
        rows=[
            (
                row.name,
                f"{row.bits_per_weight:.4f}",
                mebibytes(row.bits_per_weight * table.n_weights / 8),
                f"{row.bits_per_weight / ours.bits_per_weight:.2f} x" if ours.bits_per_weight else "-",
                row.note,
            )
            for row in table.rows
        ],
        note="By formula, n weights, k kept, v bits per value; scales, which all formats need, are counted.",
        optional=("formula", "size"),
        words=("formula",),
    )


def comparison(label: str, found: Comparison) -> View:
    """Real coders on a sample."""
    ours = next(row for row in found.rows if row.name == OURS)
    note = f"One core. Our masks alone decode at {found.mask_decode / 1e6:,.0f} M weights/s."
    if found.missing:
        note += f" Not installed, so left out: {', '.join(found.missing)} (pip install 'xorpack[report]')."
    return View(
        key=f"measured-{label}",
        title=f"Measured on {count(found.n_weights)} weights of {found.n_tensors} tensors, {label}",
        columns=("coder", "bits/weight", "against ours", "encode M/s", "decode M/s", "of"),
        rows=[
            (
                row.name,
                f"{row.bits_per_weight:.4f}",
                f"{row.bits_per_weight / ours.bits_per_weight:.2f} x" if ours.bits_per_weight else "-",
                f"{(row.encode or 0) / 1e6:,.1f}",
                f"{(row.decode or 0) / 1e6:,.1f}",
                row.note,
            )
            for row in found.rows
        ],
        note=note,
        optional=("of",),
        words=("of",),
    )


def becoming(report: Report) -> View:
    """What a plain checkpoint's matrices could become."""
    bits = sorted({b.bits for b in report.becoming})
    found = {(b.sparsity, b.bits): b.bits_per_weight for b in report.becoming}
    return View(
        key="becoming",
        title="What these tensors could become: bits per weight",
        columns=("sparsity", *(f"{b} bit{'s' if b > 1 else ''}" for b in bits)),
        rows=[(f"{s:.2f}", *(f"{found[s, b]:.3f}" for b in bits)) for s in sorted({s for s, _ in found})],
        note="H(S) + (1 - S) q + scales: xorpack comes within some percent. What accuracy bears is for you to find.",
    )


def carried(report: Report) -> View:
    """Why tensors of a plain checkpoint would be carried as they are."""
    groups = by_reason({found.name: (found.why, found.n_bytes) for found in report.carried})
    return View(
        key="carried",
        title="Tensors that would be carried as they are, by what they are",
        columns=("what", "tensors", "size", "the largest"),
        rows=[(why, str(n), mebibytes(n_bytes), largest) for why, n, n_bytes, largest in groups],
        note="--include names some of them to encode them too.",
        words=("the largest",),
    )


def planes(wide: list[TensorReport]) -> View:
    """Entropy of every bit-plane of tensors with many, over all tensors of the commonest type."""
    dtype = max({t.dtype for t in wide}, key=lambda d: sum(t.dtype == d for t in wide))
    same = [t for t in wide if t.dtype == dtype and t.planes is not None]
    q = len(same[0].planes.planes) if same[0].planes else 0
    kept = sum(t.account.n_kept for t in same) or 1

    def mean(k: int, what: str) -> float:
        return float(sum(getattr(t.planes, what)[k] * t.account.n_kept for t in same) / kept)

    rows: list[tuple[str, ...]] = []
    for k in reversed(range(q)):
        how = [
            f"{sum(k in part for part in parts)} of {len(same)}" if same[0].kind == "lossless" else ""
            for parts in ([t.coded for t in same], [t.in_field for t in same])
        ]
        rows.append((str(k), role(dtype, k), f"{mean(k, 'ones'):.4f}", f"{mean(k, 'planes'):.4f}", *how))
    joint = sum(t.planes.symbol.value * t.account.n_kept for t in same if t.planes) / kept
    error = max(t.planes.symbol.error for t in same if t.planes)
    separate = sum(t.planes.separate * t.account.n_kept for t in same if t.planes) / kept
    return View(
        key="planes",
        title=f"Bit-planes of the kept weights, {dtype}",
        columns=("plane", "role", "ones", "entropy", "coded in", "in a field in"),
        rows=rows,
        note=f"Planes one by one {separate:.3f} bits per kept weight, together {joint:.3f} (95 % +- {error:.3f} "
        "at the most, sampled). Planes of a field are coded together; constant planes are not coded.",
        words=("role",),
    )


_PARTS: Mapping[str, tuple[int, int]] = {
    "F32": (23, 8),
    "F16": (10, 5),
    "BF16": (7, 8),
    **{f"I{bits}": (bits - 1, 0) for bits in (8, 16, 32)},
}
"""Bits of mantissa and exponent, below the sign; other types, that have none, are values."""


def role(dtype: str, k: int) -> str:
    """What bit k of an element is.

    >>> role("F32", 31), role("BF16", 7), role("F16", 0), role("I8", 7)
    ('sign', 'exponent', 'mantissa', 'sign')
    """
    mantissa, exponent = _PARTS.get(dtype, (32, 0))
    if k < mantissa:
        return "mantissa" if exponent else "value"
    return "exponent" if k < mantissa + exponent else "sign"
