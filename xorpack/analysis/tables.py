"""Tables and lines that the command line prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from xorpack import escape
from xorpack.analysis.accounting import PAYLOAD, Account, LeftOut, Pruned, Speed
from xorpack.analysis.distortion import Distortion

COLUMNS = ("sparsity", "E %", "code", "corr", "field", "mask", "scales", "total", "overhead")
PARTS = ("code", "corr", "field", "mask", "scales")
"""Columns that a narrow terminal does without."""

NARROW = 110
"""Terminal columns below which :data:`PARTS` are left out."""


def accounts(
    found: Mapping[str, Account],
    seconds: Mapping[str, float] | None = None,
    distortions: Mapping[str, Distortion] | None = None,
    *,
    estimated: bool = False,
    width: int = 160,
) -> Table:
    """One row per tensor and a total; sizes in bits per weight, overhead of the payload over its bound.

    ``distortions``: D is squared error over squared weights; dB, how far that is above 4^-R, the least of white
    Gaussian weights at the total rate R (other weights can be below).

    Fits ``width`` columns: long names lose their beginning, a narrow table its parts.
    """
    title = "estimated, bits per weight" if estimated else "bits per weight"
    table = Table(title=title, title_justify="left", box=None, show_footer=True, pad_edge=False)
    total = Account.total(found.values())
    shown = [name for name in COLUMNS if width >= NARROW or name not in PARTS]
    if not total.section_bytes["field"]:
        shown = [name for name in shown if name != "field"]
    lossy = distortions or {}
    room = max(12, width - 10 * (len(shown) + (seconds is not None) + 2 * bool(lossy)))
    table.add_column("tensor", footer=f"total of {len(found)}", no_wrap=True)
    for name in shown:
        table.add_column(name, footer=_cells(total)[name], justify="right", no_wrap=True)
    if lossy:
        for column, footer in zip(
            ("D", "dB"), _errors(Distortion.total(lossy.values(), _rate(found, lossy))), strict=True
        ):
            table.add_column(column, footer=footer, justify="right", no_wrap=True)
    if seconds is not None:
        table.add_column("seconds", footer=f"{sum(seconds.values()):.2f}", justify="right", no_wrap=True)
    for name, account in found.items():
        cells = _cells(account)
        row: list[Text | str] = [_name(name, room), *(cells[key] for key in shown)]
        if lossy:
            row += _errors(lossy.get(name))
        if seconds is not None:
            row.append(f"{seconds[name]:.2f}")
        table.add_row(*row)
    return table


def pruned(found: Mapping[str, Pruned], total: Pruned, *, width: int = 160) -> Table:
    """One row per tensor and a total: weights, sparsity, what is kept of all importance, and of the best choice's."""
    table = Table(box=None, show_footer=True, pad_edge=False)
    room = max(12, width - 50)
    table.add_column("tensor", footer=f"total of {len(found)}", no_wrap=True)
    last = _shares(total)
    for name, footer in zip(("weights", "sparsity", "kept %", "of the best %"), last, strict=True):
        table.add_column(name, footer=footer, justify="right", no_wrap=True)
    for name, one in found.items():
        table.add_row(_name(name, room), *_shares(one))
    return table


def _name(name: str, room: int) -> Text:
    """A tensor's name; one that is too long loses its beginning."""
    shown = escape.printable(name)
    return Text(shown if len(shown) <= room else "…" + shown[1 - room :])


def left_out(found: Mapping[str, LeftOut], *, width: int = 160) -> Table:
    """One row per reason why tensors are carried as they are: how many, their size, the largest of them."""
    table = Table(box=None, pad_edge=False)
    table.add_column("carried as they are", no_wrap=True)
    table.add_column("tensors", justify="right", no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("the largest", no_wrap=True)
    for why, count, n_bytes, largest in by_reason({k: (t.why, t.n_bytes) for k, t in found.items()}):
        table.add_row(Text(why), str(count), mebibytes(n_bytes), _name(largest, max(12, width - 60)))
    return table


def by_reason(found: Mapping[str, tuple[str, int]]) -> list[tuple[str, int, int, str]]:
    """``(why, count, bytes, largest)`` of tensors of which the reason and the bytes are given; most bytes first."""
    groups: dict[str, list[str]] = {}
    for name, (why, _) in found.items():
        groups.setdefault(why, []).append(name)
    rows = [
        (why, len(names), sum(found[name][1] for name in names), max(names, key=lambda name: found[name][1]))
        for why, names in groups.items()
    ]
    return sorted(rows, key=lambda row: -row[2])


def _shares(one: Pruned) -> tuple[str, str, str, str]:
    shares = (one.kept / whole if whole else 1.0 for whole in (one.importance, one.best))
    kept, best = (f"{100 * share:.2f}" for share in shares)
    return str(one.n_weights), f"{one.sparsity:.4f}", kept, best


def _rate(found: Mapping[str, Account], lossy: Mapping[str, Distortion]) -> float:
    total = Account.total(found[name] for name in lossy)
    return total.per_weight(total.n_bytes)


def _errors(found: Distortion | None) -> tuple[str, str]:
    if found is None:
        return "-", "-"
    return f"{found.relative:.4f}", f"{found.above_gaussian:.2f}" if found.error else "-"


def ruined(found: Mapping[str, Distortion]) -> str | None:
    """A sentence on rows that one weight ruined; None where there are none."""
    spoilt = {name: one.n_ruined for name, one in found.items() if one.n_ruined}
    if not spoilt:
        return None
    worst = max(spoilt, key=lambda name: spoilt[name])
    n = sum(spoilt.values())
    return (
        f"{n} row{'s' * (n > 1)} of {len(spoilt)} tensor{'s' * (len(spoilt) > 1)} ruined, most in {worst}: one weight "
        "is larger than all others of its row together, and these pay for it with more than twice the error of other "
        "rows. Smaller groups (--group-size 64) confine that, --lossless or --exclude avoids it."
    )


def _cells(account: Account) -> dict[str, str]:
    sizes = account.section_bytes
    overhead = account.payload_overhead
    return {
        "sparsity": f"{account.sparsity:.4f}",
        "E %": f"{100 * account.efficiency:.3f}",
        "code": f"{account.per_weight(sizes['code']):.4f}",
        "corr": f"{account.per_weight(sizes['corrections'] + sizes['outliers']):.4f}",
        "field": f"{account.per_weight(sizes['field']):.4f}",
        "mask": f"{account.per_weight(sizes['mask']):.4f}",
        "scales": f"{account.per_weight(account.scale_bytes):.4f}",
        "total": f"{account.per_weight(account.n_bytes):.4f}",
        "overhead": "-" if overhead is None else f"{overhead:.4f}",
    }


def mebibytes(n_bytes: float) -> str:
    """A size for people."""
    return f"{n_bytes / (1 << 20):.2f} MiB"


def closing_lines(
    source_bytes: int, stored_bytes: int, n_parameters: int, encoded: Account
) -> tuple[str, str]:
    """What a run ends with: the encoded tensors, then the whole model."""
    per_weight = 8 * stored_bytes / n_parameters if n_parameters else 0.0
    return (
        f"encoded tensors {mebibytes(encoded.original_bytes)} -> {mebibytes(encoded.n_bytes)} "
        f"({encoded.per_weight(encoded.n_bytes):.2f} bits per weight{octets(encoded.n_octets)})",
        f"model size {mebibytes(source_bytes)} -> {mebibytes(stored_bytes)} ({per_weight:.2f} bits per weight)",
    )


def octets(n: int) -> str:
    """What a weight is where ``n`` of them are octets of integers."""
    return "; a weight of packed integers is an octet" if n else ""


def fitted(output_errors: Mapping[str, float], n_tensors: int) -> Iterator[str]:
    """A line on tensors that were fitted to activations; none where there are none."""
    if output_errors:
        mean = sum(output_errors.values()) / len(output_errors)
        yield (
            f"fitted to activations: {len(output_errors)} of {n_tensors} tensors; squared error of their outputs "
            f"{100 * mean:.2f} % on average"
        )


def compressed(
    total: Account,
    sizes: tuple[int, int],
    perplexities: tuple[float | None, float | None],
    phases: Sequence[tuple[str, float, int | None]],
) -> Table:
    """What a model was and became, and what that took.

    Args:
        total: of the encoded tensors.
        sizes: of all safetensors files, before and after.
        perplexities: before and after; None where they were not measured.
        phases: names, seconds, and bytes of memory at the most, None where that is not known.
    """
    table = Table(box=None, pad_edge=False, title_justify="left")
    for column in ("", "dense", "compressed"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    table.add_row("all safetensors files, MB", *(f"{n / 1e6:,.1f}" for n in sizes))
    bits = (total.per_weight(n) for n in (total.original_bytes, total.n_bytes))
    table.add_row("encoded tensors, bits per weight", *(f"{n:.3f}" for n in bits))
    table.add_row("perplexity", *("-" if p is None else f"{p:,.2f}" for p in perplexities), end_section=True)
    table.add_row()
    table.add_row(Text("phase", "bold"), Text("minutes", "bold"), Text("memory, MB", "bold"))
    for name, seconds, n_bytes in phases:
        table.add_row(name, f"{seconds / 60:.1f}", "-" if n_bytes is None else f"{n_bytes / 1e6:,.0f}")
    return table


def summary(info: Mapping[str, Any]) -> Iterator[str]:
    """The lines below the table of ``xorpack info``."""
    per_weight, bound, overhead = info["bits_per_weight"], info["bound"], info["overhead"]
    payload = sum(per_weight[name] for name in PAYLOAD)
    yield f"payload {payload:.4f} bits per weight, bound {bound['payload']:.4f}" + _times(overhead["payload"])
    codecs = Counter(tensor["mask_codec"] for tensor in info["tensors"].values())
    yield (
        f"mask    {per_weight['mask']:.4f} bits per weight, bound {bound['mask']:.4f}"
        + _times(overhead["mask"])
        + f" ({', '.join(f'{name} x {n}' for name, n in codecs.most_common())})"
        + f"; were weights independent, the bound would be {bound['mask_iid']:.4f}"
    )
    unit = octets(info.get("n_octets", 0))
    yield f"all     {per_weight['total']:.4f} bits per weight" + _times(overhead["total"]) + unit
    yield (
        f"file {mebibytes(info['file_bytes'])}: encoded {mebibytes(info['bytes']['total'])} "
        f"(was {mebibytes(info['bytes']['original'])}), carried {info['carried']['n_tensors']} tensors, "
        f"{mebibytes(info['carried']['bytes'])}"
    )


def speed(found: Speed) -> str:
    """The line of ``xorpack info --speed``."""
    rates = (f"{found.n_weights / s / 1e9:.2f}" if s else "-" for s in (found.mask, found.planes))
    return "decoding, one thread: masks {} G weights/s, masks and planes {} G weights/s".format(*rates)


def _times(overhead: float | None) -> str:
    return "" if overhead is None else f", overhead {overhead:.4f}"
