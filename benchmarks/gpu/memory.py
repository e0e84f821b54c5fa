"""Bytes of loaded tensors on a GPU beside those of the file: ``python -m benchmarks.gpu.memory [--save]``.

Needs no GPU. What is saved stands in the results beside the goals that wait for one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Hashable, Mapping
from fractions import Fraction
from typing import Any, cast

from numpy.typing import NDArray
from rich.console import Console

import xorpack
from benchmarks import data, report
from benchmarks.gpu import cases
from benchmarks.gpu.cases import TrellisCase
from benchmarks.gpu.goals import counted, unmeasured
from benchmarks.measure import Row
from xorpack.cuda.device import Device
from xorpack.decoders.gpu.packed import pack
from xorpack.decoders.gpu.tensor import GpuTensor
from xorpack.encoded import EncodedTensor

THEME = "GPU: memory / stored bytes"


class Ledger:
    """A device that keeps what is uploaded in host memory, to be counted; it launches nothing."""

    n_multiprocessors, shared_limit = 132, 227 << 10

    def __init__(self) -> None:
        self.constants: dict[Hashable, NDArray[Any]] = {}

    def upload(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array itself."""
        return array

    def pointer(self, array: NDArray[Any]) -> int:
        """Where it lies here."""
        return int(array.ctypes.data)

    def constant(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """One array a key."""
        return self.constants.setdefault(key, make())

    @property
    def shared(self) -> int:
        """Bytes of all constants."""
        return sum(array.nbytes for array in self.constants.values())


def memory(encoded: EncodedTensor, ledger: Ledger) -> dict[str, int]:
    """What :meth:`GpuTensor.memory` says of the tensor once it is loaded."""
    return GpuTensor(encoded, pack(encoded), cast(Device, ledger)).memory()


def row(what: str, encoded: EncodedTensor) -> Row:
    """Device bytes over stored bytes."""
    found = memory(encoded, Ledger())
    note = f"{found['total']} bytes for {found['stored']}; tables that tensors share: {found['shared']}"
    return Row(
        what=what,
        samples=[found["total"] / found["stored"]],
        digits=4,
        at_most=1.01,
        note=note,
    )


def model(sparsity: float, bits: int) -> Row:
    """All matrices of MiniLM."""
    what = f"MiniLM's matrices, masks as chosen, S {sparsity}, q {bits}"
    directory, ledger = data.model_directory(), Ledger()
    if directory is None:
        return Row(what=what, note="the model is not installed")
    total = stored = 0
    for _, weight in data.model_matrices(directory):
        found = memory(
            xorpack.encode(xorpack.quantize(weight, bits=bits, sparsity=sparsity, group_size=0)), ledger
        )
        total, stored = total + found["total"], stored + found["stored"]
    note = f"{total} bytes for {stored}; tables that tensors share: {ledger.shared}"
    return Row(what=what, samples=[total / stored], digits=4, at_most=1.01, note=note)


def main() -> None:
    """Print the table; save it where asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.memory", description=__doc__)
    parser.add_argument(
        "--save", action="store_true", help="write benchmarks/results/gpu.json, docs/results.md"
    )
    options = parser.parse_args()
    rows = [row(f"bitmap, {case.name}", cases.synthetic(case)) for case in cases.GOALS if case.group]
    for codec in ("cascade", "block"):
        for sparsity, bits in ((0.5, 3), (0.8, 2), (0.9, 2), (0.95, 2), (0.98, 1)):
            encoded = xorpack.encode(data.random_bcq(2048, sparsity, bits), mask_codec=codec)
            rows.append(
                row(
                    f"{codec}, 2048 x 2048, S {sparsity}, q {bits}, scales per row",
                    encoded,
                )
            )
    trellises = [TrellisCase(rows=2048, cols=2048, rate=Fraction(r), at_least=0) for r in (1, 2)]
    rows += [row(f"{case.name}, no outliers", cases.trellis(case)) for case in trellises]
    rows += [model(0.8, 2), model(0.9, 2)]
    Console(width=200).print(report.table({THEME: rows}))
    if options.save:
        about = report.environment()
        themes = {THEME: report.as_theme(rows, about, "python -m benchmarks.gpu.memory --save")}
        report.save("gpu", themes | without_gpu(about))


def without_gpu(about: Mapping[str, Any]) -> dict[str, Any]:
    """Themes of what is counted, and of goals that wait: those that a GPU has measured stay as they are."""
    waiting = {
        f"GPU: {name}": report.as_theme(goals, about, "python -m benchmarks.gpu")
        for name, goals in unmeasured().items()
    }
    measured = {
        name for name, theme in report.saved("gpu").items() if any(row["samples"] for row in theme["rows"])
    }
    return {
        "GPU: instructions": report.as_theme(counted(), about, "python tests/sass.py"),
        **{name: theme for name, theme in waiting.items() if name not in measured},
    }


if __name__ == "__main__":
    main()
