"""Other formats: formulas against files made by hand, and coders that must give back what they were given."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from samples import bcq, hostile, pruned

from xorpack.analysis import coders
from xorpack.analysis.bounds import binary_entropy
from xorpack.analysis.coders import CODERS, Content
from xorpack.analysis.comparison import FAST, OURS, compare
from xorpack.analysis.formats import BOUND, FORMATS, FormatRow, TensorCounts, by_formula
from xorpack.code import words
from xorpack.errors import ParameterError


def weights(kept, value_bits: int = 4, scale_bits: int = 0) -> TensorCounts:
    k = int(kept.sum())
    return TensorCounts(
        rows=kept.shape[0],
        n=kept.size,
        kept=k,
        value_bits=value_bits,
        scale_bits=scale_bits,
        original_bits=32,
        payload_bits=k * value_bits,
        mask_bits=kept.size * binary_entropy(k / kept.size),
    )


def test_formulas_against_sizes_that_are_counted() -> None:
    kept = np.random.default_rng(0).random((300, 1000)) < 0.05
    w = weights(kept, scale_bits=64)
    sizes = {name: bits(w) for name, (bits, _) in FORMATS.items()}
    row_pointers, columns = np.zeros(301, np.uint32), np.flatnonzero(kept).astype(np.uint32)
    assert sizes["CSR, 32-bit indices"] == 8 * (row_pointers.nbytes + columns.nbytes) + 4 * w.kept + 64
    assert sizes["CSR, 16-bit indices"] == 8 * (row_pointers.nbytes + columns.nbytes // 2) + 4 * w.kept + 64
    assert sizes["bitmap + values"] == kept.size + 4 * w.kept + 64
    assert sizes["dense float32"] == 32 * kept.size
    assert sizes[BOUND] < min(size for name, size in sizes.items() if name != BOUND)


def test_fillers_of_a_relative_index() -> None:
    kept = np.random.default_rng(1).random((1000, 1000)) < 0.05
    gaps = np.diff(np.flatnonzero(kept.reshape(-1)), prepend=-1)
    entries = int((-(-gaps // 16)).sum())  # a filler every 16 positions
    found = FORMATS["relative index, 4 bits"][0](weights(kept))
    assert abs(found / (entries * 8) - 1) < 0.01
    assert FORMATS["relative index, 4 bits"][0](weights(np.zeros((3, 3), bool))) == 0


def test_narrow_elements_have_no_dense_floats() -> None:
    ours = FormatRow(name=OURS, note="", bits_per_weight=1.0)
    assert by_formula(ours, []).rows == (ours,)
    w = weights(np.ones((4, 4), bool))
    names = {row.name for row in by_formula(ours, [w]).rows}
    assert names == {OURS, *FORMATS}
    narrow = by_formula(ours, [replace(w, original_bits=16)])
    assert narrow.n_weights == 16
    assert names - {row.name for row in narrow.rows} == {"dense float32", "dense float16"}


TENSORS = {
    "quantized": lambda: bcq((120, 300), 0.9, 2),
    "groups": lambda: bcq((64, 128), 0.5, 3, group_size=32),
    "one plane": lambda: bcq((1, 77), 0.3, 1),
    "nothing kept": lambda: bcq((9, 40), 1.1, 2),
    "all kept": lambda: bcq((9, 40), 0.0, 2),
    "float32": lambda: pruned((100, 64), 0.8),
    "float16": lambda: hostile(np.float16),
    "bfloat16": lambda: hostile(ml_dtypes.bfloat16),
    "int8": lambda: pruned((50, 50), 0.5, np.int8),
    "one value": lambda: np.full((8, 8), 3, np.uint8),
    "strided": lambda: pruned((60, 90), 0.5)[::2, ::3],
}


@pytest.mark.parametrize("name", TENSORS)
def test_every_coder_gives_back_every_tensor(name) -> None:
    tensor = TENSORS[name]()
    found = compare([tensor])
    assert [row.name for row in found.rows] == [OURS, FAST, *CODERS]
    assert found.missing == ()
    assert found.n_weights == Content.of(tensor).mask.size
    assert all(row.measured for row in found.rows)
    assert all(row.encode > 0 and row.decode > 0 for row in found.rows)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("sparsity", "bits"), [(0.5, 3), (0.9, 2), (0.95, 1)])
def test_nothing_beats_its_bound_on_random_data(seed, sparsity, bits) -> None:
    tensor = bcq((256, 512), sparsity, bits, seed=seed)
    content = Content.of(tensor)
    n, k = content.mask.size, int(content.mask.sum())
    scales = 8 * content.extra_bytes
    # A code may be lucky on one mask by some standard deviations of its information.
    deviation = np.sqrt(n * sparsity * (1 - sparsity)) * abs(np.log2(sparsity / (1 - sparsity)))
    bound = n * binary_entropy(sparsity) - 4 * deviation - 30 + k * bits + scales
    for row in compare([tensor]).rows:
        assert row.bits_per_weight * n >= bound, row.name


def test_a_coder_that_lies_is_caught(monkeypatch) -> None:
    monkeypatch.setattr(coders.np, "array_equal", lambda a, b: False)
    with pytest.raises(coders.CoderError, match="ANS"):
        coders.ans_iid(Content.of(bcq((8, 64))))


def test_content_is_what_the_tensor_holds() -> None:
    tensor = bcq((30, 100), 0.6, 3)
    content = Content.of(tensor)
    kept = words.unpack(tensor.mask, 100)
    assert (content.mask == kept).all()
    for k in range(3):
        assert (words.unpack(tensor.planes[k], 100)[kept] == (content.symbols >> k & 1)).all()
    negative_zero = np.array([[0.0, -0.0, 1.0]], np.float32)
    assert Content.of(negative_zero).mask.tolist() == [[False, True, True]]


def test_an_empty_sample() -> None:
    with pytest.raises(ParameterError, match="holds no weights"):
        compare([np.zeros((0, 4), np.float32)])


def test_packages_that_are_not_installed(monkeypatch) -> None:
    monkeypatch.setattr(coders.importlib.util, "find_spec", lambda name: None)
    found = compare([bcq((20, 64))])
    assert [row.name for row in found.rows] == [OURS, FAST]
    assert found.missing == ("constriction", "zstandard")
