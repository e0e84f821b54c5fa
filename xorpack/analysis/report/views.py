"""A report as tables of text, which every format for people prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from xorpack.analysis.accounting import PAYLOAD as PAYLOAD_PARTS
from xorpack.analysis.accounting import Account
from xorpack.analysis.comparison import OURS, Comparison
from xorpack.analysis.distortion import Distortion
from xorpack.analysis.formats import FormatTable
from xorpack.analysis.output_loss import OutputLoss
from xorpack.analysis.report.contents import Options, Report, TensorReport
from xorpack.analysis.tables import by_reason, mebibytes
from xorpack.encoded import SECTIONS

PAYLOAD = "= payload"
ENCODED = "= encoded tensors"
ALL = "= all files"
PARTS_COLUMNS = ("part", "size", "% of files", "bits/weight", "bound", "overhead")
PARTS_NOTE = (
    "Overhead is size / bound. The mask's bound is its entropy, rows and columns modelled; "
    "scales count as they are."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A table: column names, rows of text, a last row of totals, and what it means.

    ``optional``: columns that a narrow terminal does without, the first to go first. The first column is text, and so
    are those named in ``words``; the others are numbers. ``names``: those of all tensors, listed or not.
    """

    key: str
    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    total: tuple[str, ...] | None = None
    note: str = ""
    optional: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


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
    )


def count(n: int) -> str:
    """A number for people.

    >>> count(999), count(22_700_000), count(3_000_000_000)
    ('999', '22.7 M', '3.0 G')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return str(n)


def times(before: float, after: float) -> str:
    """How many times smaller."""
    return f"{before / after:.1f} x" if after else "-"


def labels(names: Sequence[str], room: int, among: Sequence[str] = ()) -> list[str]:
    """Names without the components that all (of ``among``) begin and end with, where they do not fit as they are.

    >>> labels(["layer.0.key.weight", "layer.1.key.weight"], 12)
    ['0', '1']
    >>> labels(["layer.0.key.weight"], 12)
    ['….key.weight']
    """
    if max(map(len, names), default=0) <= room:
        return list(names)
    split = [name.split(".") for name in among or names]
    n_least = min(len(parts) for parts in split)
    begin = next((i for i in range(n_least) if len({parts[i] for parts in split}) > 1), 0)
    end = next((i for i in range(n_least) if len({parts[-1 - i] for parts in split}) > 1), 0)
    kept = [".".join(parts[begin : len(parts) - end]) for parts in (name.split(".") for name in names)]
    return [name if len(name) <= room else "…" + name[len(name) - room + 1 :] for name in kept]


def bound(account: Account) -> float:
    """Bits per weight: payload, mask, and scales as they are."""
    bits = account.payload_bound_bits + account.mask_bound_bits + 8 * account.scale_bytes
    return account.per_weight(bits / 8)


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


def tensors(report: Report, options: Options) -> View:
    """One row per tensor."""
    listed = options.listed(report)
    more = len(report.tensors) - len(listed)
    order = "" if options.sort is None else f", by {options.sort}"
    maker = _encoded_row if report.kind == "encoded" else _plain_row
    return View(
        key="tensors",
        title=f"Tensors{order}, bits per weight" + (f" ({more} more: --top 0 lists all)" if more else ""),
        columns=(ENCODED_COLUMNS if report.kind == "encoded" else PLAIN_COLUMNS)
        + (() if report.distortion is None else ERROR_COLUMNS)
        + (() if report.outputs is None else OUTPUT_COLUMNS),
        rows=[
            (t.name, *maker(t), *_error_cells(report, t.distortion), *_output_cells(report, t.outputs))
            for t in listed
        ],
        total=(
            f"total of {len(report.tensors)}",
            *maker(report),
            *_error_cells(report, report.distortion),
            *_output_cells(report, report.outputs),
        ),
        note=" ".join(
            note
            for note, found in ((ERROR_NOTE, report.distortion), (OUTPUT_NOTE, report.outputs))
            if found is not None
        ),
        optional=(
            *("shape", "mask codec", "type", "scales", "E %"),
            *("mask entropy", "value entropy", "payload", "mask"),
            *(() if report.distortion is None else ("bound", "overhead", "sparsity")),
        ),
        words=("shape", "mask codec", "type"),
        names=tuple(t.name for t in report.tensors),
    )


ENCODED_COLUMNS = (
    "tensor", "shape", "sparsity", "E %", "payload", "mask", "scales", "total", "bound", "overhead", "mask codec",
)  # fmt: skip
PLAIN_COLUMNS = (
    "tensor", "shape", "type", "sparsity", "mask entropy", "value entropy", "lossless", "quantized",
)  # fmt: skip
ERROR_COLUMNS = ("D", "dB to Gauss", "dB to own")
ERROR_NOTE = (
    "D: squared error over squared weights. dB to Gauss: above 4^-R, the least D of white Gaussian weights at the "
    "total R; other weights can be below. dB to own: above Shannon's lower bound of weights distributed as these, "
    "row by row, were they independent."
)


OUTPUT_COLUMNS = ("output error", "nats", "gain/MB")
OUTPUT_NOTE = (
    "output error: squared error of what a layer gives out over its squares, on the calibration text. nats: what it "
    "costs the loss of a token, to second order. gain/MB: what a bit more for each weight would gain of that."
)


def _output_cells(report: Report, found: OutputLoss | None) -> tuple[str, ...]:
    if report.outputs is None:
        return ()
    return ("-", "-", "-") if found is None else output_cells(found)


def output_cells(found: OutputLoss) -> tuple[str, str, str]:
    """The relative error, its cost in nats, and what a bit more would gain by the megabyte.

    >>> output_cells(OutputLoss(error=1.0, energy=8.0, nats=0.25, n_kept=8_000_000))
    ('0.125', '0.25', '0.188')
    """
    nats, gain = ("-" if value is None else f"{value:.3g}" for value in (found.nats, found.gain))
    return f"{found.relative:.4g}", nats, gain


def _error_cells(report: Report, found: Distortion | None) -> tuple[str, ...]:
    if report.distortion is None:
        return ()
    return ("-", "-", "-") if found is None else error_cells(found)


def error_cells(found: Distortion) -> tuple[str, str, str]:
    """D, and dB above the Gaussian's bound and above its own.

    >>> error_cells(Distortion(error=0.5, energy=8.0, rate=1.5))
    ('0.0625', '-3.01', '-')
    """
    gauss, own = (
        "-" if above is None or not found.error else f"{above:.2f}"
        for above in (found.above_gaussian, found.above_bound)
    )
    return f"{found.relative:.4g}", gauss, own


def _shape(found: TensorReport | Report) -> str:
    return " x ".join(map(str, found.shape)) if isinstance(found, TensorReport) else ""


def _encoded_row(found: TensorReport | Report) -> tuple[str, ...]:
    a = found.account if isinstance(found, TensorReport) else found.total
    return (
        _shape(found),
        f"{a.sparsity:.4f}",
        f"{100 * a.efficiency:.3f}",
        f"{a.per_weight(a.payload_bytes):.4f}",
        f"{a.per_weight(a.section_bytes['mask']):.4f}",
        f"{a.per_weight(a.scale_bytes):.4f}",
        f"{a.per_weight(a.n_bytes):.4f}",
        f"{bound(a):.4f}",
        "-" if a.total_overhead is None else f"{a.total_overhead:.3f}",
        found.mask_codec if isinstance(found, TensorReport) else "",
    )


def _plain_row(found: TensorReport | Report) -> tuple[str, ...]:
    if isinstance(found, TensorReport):
        exact, account = found.exact or found.account, found.account if found.exact else None
        dtype = found.dtype
    else:
        exact = Account.total(t.exact or t.account for t in found.tensors)
        account, dtype = Account.total(t.account for t in found.tensors if t.exact), ""
    value = exact.payload_bound_bits / exact.n_kept if exact.n_kept else 0.0
    return (
        _shape(found),
        dtype,
        f"{exact.sparsity:.4f}",
        f"{exact.per_weight(exact.mask_bound_bits / 8):.4f}",
        f"{value:.3f}",
        f"{exact.per_weight(exact.n_bytes):.3f}",
        f"{account.per_weight(account.n_bytes):.3f}" if account and account.n_weights else "-",
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


def role(dtype: str, k: int) -> str:
    """What bit k of an element is.

    >>> role("F32", 31), role("BF16", 7), role("F16", 0), role("I8", 7)
    ('sign', 'exponent', 'mantissa', 'sign')
    """
    mantissa, exponent = {"F32": (23, 8), "F16": (10, 5), "BF16": (7, 8)}.get(
        dtype, (7 if dtype == "I8" else 8, 0)
    )
    if k < mantissa:
        return "mantissa" if exponent else "value"
    return "exponent" if k < mantissa + exponent else "sign"
