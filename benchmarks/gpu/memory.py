"""Bytes of loaded tensors on a GPU beside those of the file; needs no GPU: ``python -m benchmarks.gpu.memory``."""

from __future__ import annotations

from rich.console import Console

import xorpack
from benchmarks import report
from benchmarks.data import random_bcq
from benchmarks.gpu import cases
from benchmarks.measure import Row
from xorpack.decoders.gpu.packed import pack
from xorpack.encoded import EncodedTensor


def row(what: str, encoded: EncodedTensor) -> Row:
    """Device bytes over stored bytes."""
    arrays = pack(encoded).arrays
    total, stored = sum(array.nbytes for array in arrays.values()), sum(encoded.section_bytes().values())
    note = f"{total} bytes for {stored}; {encoded.n_corrections} corrections"
    return Row(what=what, samples=[total / stored], digits=4, at_most=1.01, note=note)


def main() -> None:
    """Print the table."""
    rows = [row(f"bitmap, {case.name}", cases.synthetic(case)) for case in cases.CASES[:6]]
    for sparsity, bits in ((0.8, 2), (0.9, 2), (0.95, 2)):
        tensor = random_bcq(2048, sparsity, bits)
        encoded = xorpack.encode(tensor, mask_codec="cascade")
        rows.append(row(f"cascade, 2048 x 2048, S {sparsity}, q {bits}, scales per row", encoded))
    Console(width=160).print(report.table({"GPU memory / stored bytes": rows}))


if __name__ == "__main__":
    main()
