"""A table of text, and how numbers and names stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xorpack.analysis.accounting import Account


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
