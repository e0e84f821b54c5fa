"""Masks: bits per weight of the cascade beside the entropy, and what it costs beside the bitmap."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import xorpack
from benchmarks.data import NOT_INSTALLED, model_directory, model_matrices, random_bcq
from benchmarks.measure import Row, check_decodes, interleaved, ratios, times
from xorpack.analysis.accounting import Account
from xorpack.analysis.bounds import mask_bound
from xorpack.expand import expand

GOALS = ((0.8, 0.815), (0.9, 0.525), (0.95, 0.32), (0.98, 0.16))


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size, n = (2048, 2) if quick else (4096, 5)
    for sparsity, goal in GOALS:
        tensor = random_bcq(size, sparsity, 2)
        encoded = xorpack.encode(tensor)
        check_decodes(encoded, tensor)
        yield Row(
            what=f"mask by cascade, i.i.d. {size} x {size}, S {sparsity}",
            samples=[8 * encoded.mask.nbytes / encoded.n_weights],
            unit="bits per weight",
            digits=4,
            at_most=goal,
            note=f"entropy {mask_bound(sparsity):.4f}, {encoded.mask_config['n_filters']} filters",
        )
        where = f"{size} x {size}, S {sparsity}, q 2, one core"
        decoding = [encoded.n_weights / s / 1e9 for s in times(partial(encoded.load_mask, expand), n)]
        yield Row(what=f"decode the mask, {where}", samples=decoding, unit="G weights/s", at_least=3)
        calls = [partial(xorpack.encode, tensor, prefer=prefer) for prefer in ("size", "speed")]
        slower = ratios(*interleaved(calls, n))
        yield Row(what=f"encode with cascade / with bitmap, {where}", samples=slower, unit="x", at_most=2)
    yield _model()


def _model() -> Row:
    what = "all sections, all-MiniLM-L6-v2, 36 matrices, S 0.9, q 2, scales per row"
    directory = model_directory()
    if directory is None:
        return Row(what=what, note=NOT_INSTALLED)
    accounts = []
    for _, matrix in model_matrices(directory):
        tensor = xorpack.quantize(matrix, bits=2, sparsity=0.9)
        encoded = xorpack.encode(tensor, jobs=2)
        check_decodes(encoded, tensor)
        accounts.append(Account.of(encoded))
    total = Account.total(accounts)
    mask = total.per_weight(total.section_bytes["mask"])
    return Row(
        what=what,
        samples=[total.per_weight(total.n_bytes)],
        unit="bits per weight",
        digits=4,
        note=f"mask {mask:.4f}; {32 / total.per_weight(total.n_bytes):.1f} x smaller than float32",
    )
