"""Rates: code + corrections over ``(1 - S) q`` bits per weight, on i.i.d. masks and on a real model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import zstandard

import xorpack
from benchmarks.data import NOT_INSTALLED, model_directory, model_matrices, random_bcq, random_lossless
from benchmarks.measure import Row, check_decodes
from xorpack.analysis.accounting import Account
from xorpack.tensors import DTYPES, BCQTensor

IID = ((0.5, 3, 1.012), (0.7, 3, 1.015), (0.9, 2, 1.018))
LOSSLESS = (
    ("BF16", 0.5, 10.9),
    ("F16", 0.5, 13.9),
    ("F32", 0.5, 26.95),
    ("I8", 0.5, None),
    ("16 values", 0.5, 4.15),
    ("BF16", 0.9, None),
    ("F32", 0.9, None),
    ("BF16", 0.0, None),
)
"""Type, sparsity, goal."""

MODEL = ((0.5, 3, 1.02), (0.8, 2, 1.03), (0.9, 2, 1.035))


LOSSLESS_MODEL = (("BF16", 0.0), ("BF16", 0.5), ("BF16", 0.8), ("F16", 0.5), ("F32", 0.5), ("F32", 0.8))


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size = 4096
    for sparsity, bits, goal in IID:
        account = _account(random_bcq(size, sparsity, bits))
        yield _row(f"payload overhead, i.i.d. {size} x {size}, S {sparsity}, q {bits}", account, goal)
    yield from _lossless(1024 if quick else 2048)
    directory = model_directory()
    for sparsity, bits, goal in MODEL:
        what = f"payload overhead, all-MiniLM-L6-v2, 36 matrices, S {sparsity}, q {bits}"
        if directory is None:
            yield Row(what=what, at_most=goal, note=NOT_INSTALLED)
            continue
        accounts = [
            _account(xorpack.quantize(matrix, bits=bits, sparsity=sparsity, group_size=0, jobs=2))
            for _, matrix in model_matrices(directory)
        ]
        if len(accounts) != 36:
            raise ValueError(f"all-MiniLM-L6-v2 has {len(accounts)} encoder matrices, not 36")
        yield _row(what, Account.total(accounts), goal)
    if not quick:
        yield from _lossless_model(directory)


def _lossless_model(directory: Path | None) -> Iterator[Row]:
    """The model's matrices, pruned by magnitude and kept bit for bit, beside zstd -19 on their bytes."""
    zstd = zstandard.ZstdCompressor(level=19)
    for dtype, sparsity in LOSSLESS_MODEL:
        what = f"lossless {dtype}, all-MiniLM-L6-v2, 36 matrices, S {sparsity}: all bits per weight"
        if directory is None:
            yield Row(what=what, note=NOT_INSTALLED)
            continue
        accounts, theirs = [], 0
        for _, matrix in model_matrices(directory):
            least = np.quantile(np.abs(matrix), sparsity)
            array = np.where(np.abs(matrix) < least, np.float32(0), matrix).astype(DTYPES[dtype])
            encoded = xorpack.encode(array, jobs=2)
            check_decodes(encoded, array)
            accounts.append(Account.of(encoded))
            theirs += len(zstd.compress(array.tobytes()))
        total = Account.total(accounts)
        dense, theirs_over = total.original_bytes / total.n_bytes, theirs / total.n_bytes
        sizes = f"the type {dense:.2f} x, zstd -19 {theirs_over:.2f} x larger"
        note = f"code / entropy {total.payload_overhead:.3f}; {sizes}"
        yield Row(what=what, samples=[total.per_weight(total.n_bytes)], unit="bits", digits=2, note=note)


def _lossless(size: int) -> Iterator[Row]:
    """Bits of code, corrections and field per kept weight, with a field and without one, beside the entropy."""
    for dtype, sparsity, goal in LOSSLESS:
        array = random_lossless(size, sparsity, dtype)
        accounts = {}
        for field in ("auto", "none"):
            encoded = xorpack.encode(array, field=field, jobs=2)
            check_decodes(encoded, array)
            accounts[field] = Account.of(encoded)
        bits = {field: 8 * account.payload_bytes / account.n_kept for field, account in accounts.items()}
        entropy = accounts["auto"].payload_bound_bits / accounts["auto"].n_kept
        yield Row(
            what=f"payload per kept weight, lossless {dtype}, i.i.d. {size} x {size}, S {sparsity}",
            samples=[bits["auto"]],
            unit="bits",
            digits=3,
            at_most=goal,
            note=f"entropy {entropy:.3f}, overhead {bits['auto'] / entropy:.4f}; without a field {bits['none']:.3f}",
        )


def _account(tensor: BCQTensor) -> Account:
    encoded = xorpack.encode(tensor, jobs=2)
    check_decodes(encoded, tensor)
    return Account.of(encoded)


def _row(what: str, account: Account, goal: float | None) -> Row:
    return Row(
        what=what,
        samples=[account.payload_overhead or 0.0],
        digits=4,
        at_most=goal,
        note=f"E {100 * account.efficiency:.3f} %, {account.per_weight(account.n_bytes):.4f} bits per weight",
    )
