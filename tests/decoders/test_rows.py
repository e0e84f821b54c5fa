"""Rows by their numbers are those of the whole tensor, whatever is decoded with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gpu_cases import BCQ, MASKS
from samples import hostile, pruned, same

import xorpack
from xorpack import EncodedTensor
from xorpack.code.trellis_kernels import ages_of, expand_trellis
from xorpack.decoders import cpu, rows
from xorpack.decoders.rows import RowReader, stretches
from xorpack.decoders.rows_kernels import gather_kernel


def trellis(**options: Any) -> EncodedTensor:
    weight = np.random.default_rng(3).standard_t(3, (70, 75)).astype(np.float32)
    return xorpack.encode(xorpack.quantize(weight, method="trellis", rate=1.5, window=8, **options))


CASES = {
    "trellis": trellis,
    "trellis, groups, gains": lambda: trellis(group_size=20, column_gains=True),
    "trellis, masked": lambda: trellis(sparsity=0.6, column_gains=True),
    "trellis, no outliers": lambda: trellis(outliers=False),
    "lossless": lambda: xorpack.encode(hostile(np.float16)),
    "field": lambda: xorpack.encode(pruned((60, 70), 0.5), field="always"),
    **{name: MASKS[name] for name in ("cascade", "block", "block, sorted columns", "bmf")},
    **{
        name: BCQ[name]
        for name in (
            "packed",
            "packed, block",
            "packed, constant planes",
            "odd columns",
            "conv",
            "wide",
            "raw",
            "all pruned",
            "empty",
            "no columns",
        )
    },
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("gap", [0, 300, 1 << 30])
def test_rows(name: str, gap: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "GAP_ELEMENTS", gap)
    monkeypatch.setattr(rows, "STRETCH_ELEMENTS", 1500)
    encoded = CASES[name]()
    whole = cpu.decode_dense(encoded).reshape(encoded.rows, encoded.cols)
    reader = RowReader(encoded)
    rng = np.random.default_rng(1)
    for count in (0, 1, 5, encoded.rows):
        wanted = np.sort(rng.choice(encoded.rows, min(count, encoded.rows), replace=False))
        assert same(reader.read(wanted), whole[wanted])


def test_all_rows_stand_in_one_stretch_each() -> None:
    wanted = np.array([0, 1, 4, 9, 10, 500, 501])
    found = list(stretches(wanted, 1000))
    assert np.concatenate([wanted[here] for here, _, _ in found]).tolist() == wanted.tolist()
    assert [(first, last) for _, first, last in found] == [(0, 11), (500, 502)]
    assert len(list(stretches(np.arange(5000), 1000))) == -(-5000 // (rows.STRETCH_ELEMENTS // 1000))


def test_the_kernel_as_python() -> None:
    tensor = trellis().trellis(None)
    wanted, network = np.array([0, 3, 69]), tensor.network
    expected = expand_trellis(network, tensor.code, 70)[:, wanted]
    for kernel in (gather_kernel, gather_kernel.py_func):
        planes = np.zeros_like(expected)
        kernel(tensor.code, network.n_in, network.n_out, *ages_of(network), wanted, planes)
        assert np.array_equal(planes, expected)
