"""The kernels' own text, run on the CPU, against the numpy reference: bit for bit, or within float32 rounding."""

from __future__ import annotations

import functools
from dataclasses import replace

import gpu_cases
import host_device
import ml_dtypes
import numpy as np
import pytest
from gpu_cases import BCQ, LOSSLESS, NOT_MULTIPLIED, check_product
from mask_samples import crowded, with_mask
from samples import bcq, replaced, same

import xorpack
from xorpack import masks
from xorpack.code import corrections
from xorpack.code.corrections import Corrections
from xorpack.decoders import reference
from xorpack.decoders.gpu import GpuTensor, lists, order, packed, products
from xorpack.decoders.gpu import masks as device_masks
from xorpack.decoders.gpu.launches import decode_launch
from xorpack.encoding.masks import block as blocks
from xorpack.errors import ParameterError
from xorpack.tensors import DTYPES

pytestmark = pytest.mark.skipif(
    host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU"
)
ALL = BCQ | LOSSLESS | NOT_MULTIPLIED


@functools.cache
def encoded_case(name):
    return ALL[name]()


@functools.cache
def loaded(name, mask="stored"):
    return host_device.load(encoded_case(name), mask)


def activations(n, cols, dtype, seed=0):
    return np.random.default_rng([seed, n, cols]).standard_normal((n, cols)).astype(DTYPES[dtype])


@pytest.mark.parametrize("name", ALL)
def test_decode_words(name):
    assert same(loaded(name).decode_words(), gpu_cases.coded_words(encoded_case(name)))


@pytest.mark.parametrize("name", ALL)
def test_decode(name):
    encoded = encoded_case(name)
    wanted = reference.decode_dense(encoded).reshape(encoded.shape)
    assert same(loaded(name).decode(), wanted)


@pytest.mark.parametrize("name", NOT_MULTIPLIED)
def test_what_is_not_multiplied(name):
    encoded, tensor = encoded_case(name), loaded(name)
    for algorithm in ("auto", "decode"):
        with pytest.raises(
            ParameterError, match=f"tensor of {encoded.dtype} is decoded on a GPU, not multiplied"
        ):
            tensor.matmul(activations(2, encoded.cols, "F16"), algorithm=algorithm)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", ["small", "unrolled, row scales", "wide scales", "constant planes"])
def test_decode_to_another_type(name, dtype):
    encoded = encoded_case(name)
    with np.errstate(over="ignore"):
        wanted = reference.decode_dense(encoded).astype(DTYPES[dtype])
    assert same(loaded(name).decode(dtype), wanted)


@pytest.mark.parametrize(
    "name", ["cascade", "cascade, unrolled", "hostile bfloat16", "block", "bmf, unrolled"]
)
def test_any_mask_as_a_bitmap(name):
    encoded = encoded_case(name)
    tensor = loaded(name, "bitmap")
    assert same(tensor.decode(), reference.decode_dense(encoded).reshape(encoded.shape))
    assert "mask" in tensor.memory()


def test_symbols_become_raw_planes():
    encoded = encoded_case("signs, nothing pruned")
    memory = loaded("signs, nothing pruned").memory()
    assert memory["code"] == 4 * encoded.n_weights // 8
    assert not any(part.startswith("field") for part in memory)
    assert memory["stored"] == sum(encoded.section_bytes().values()) < memory["total"]


def test_packed_bits_become_raw_planes():
    """On the device; ``stored`` says what the file has."""
    encoded = encoded_case("packed")
    memory = loaded("packed").memory()
    assert (
        memory["code"]
        == 2 * encoded.n_weights // 8
        > memory["stored"]
        == sum(encoded.section_bytes().values())
    )


@pytest.mark.parametrize("name", gpu_cases.MASKS)
def test_a_mask_stays_as_it_is_stored(name):
    """Its words are made on the device, whatever the order of threads and the number of blocks."""
    encoded = encoded_case(name)
    assert "mask" not in loaded(name).memory()
    mask, _ = reference.decode_planes(encoded)
    wanted = reference.expand(encoded.coded, 0, encoded.rows, mask)
    for turns in ("falling", "a warp ahead"):
        other = host_device.load(encoded, turns=turns, n_multiprocessors=1)
        assert same(other.decode_words(), wanted)
        other._device.poison()
        assert same(other.decode_words(), wanted)


def test_every_mask_codec_has_a_decoder():
    assert {masks.Constant, masks.Huffman, *device_masks.CODECS} == set(masks.CODECS.values())
    found = {type(case().mask) for case in gpu_cases.MASKS.values()}
    assert found == set(device_masks.CODECS) - {masks.Bitmap}


def test_masks_of_cases_take_every_way():
    """Wrong bits of the plane and of the mask, classes of both kinds, columns sorted or not, levels below 0."""
    config = encoded_case("block, crowded").mask_config
    assert min(config["n_corrections"]) > 0
    assert min(len(config["row_levels"]), len(config["col_levels"])) > 1
    assert min(config["row_levels"]) + min(config["col_levels"]) < 0
    assert encoded_case("block, no deep bits").mask_config["layout"][1] == 0
    assert encoded_case("block of 32").mask_config["code"][0] == 32
    for name in ("block, sorted columns", "block, sorted columns, unrolled"):
        assert encoded_case(name).mask_config["code"][3] == 1
        assert "block_move" in {kernel.name for kernel, _ in loaded(name).kernels(1)}
    assert encoded_case("cascade, corrections").mask_config["n_corrections"] > 10


CODES = [*blocks.CANDIDATES, (7, 2, 5), (1, 1, 1), (5, 0, 3), (31, 2, 24), (9, 9, 9)]


@pytest.mark.parametrize("code", CODES, ids=str)
@pytest.mark.parametrize("shape", [(50, 700), (300, 40), (1, 3000), (97, 1025)], ids=str)
def test_every_prefix_code(shape, code, monkeypatch):
    monkeypatch.setattr(blocks, "CANDIDATES", (code,))
    tensor = with_mask(crowded(*shape))
    encoded = xorpack.encode(tensor, mask_codec="block")
    assert encoded.mask_config["code"][:3] == list(code)
    wanted = reference.expand(encoded.coded, 0, encoded.rows, tensor.mask)
    assert same(host_device.load(encoded).decode_words(), wanted)


def test_fields_of_cases_take_every_way():
    """Corrections of the elements; elements of every size; masks of every kind."""
    cases = [encoded_case(name) for name in gpu_cases.FIELDS]
    assert any(case.n_corrections for case in cases)
    assert {case.bits for case in cases} == {8, 16, 32}
    assert {case.mask_codec for case in cases} >= {"constant", "bitmap", "cascade", "block"}


@pytest.mark.parametrize("name", gpu_cases.FIELDS)
def test_fields(name):
    """Symbols whole and by tiles of rows, as a product decodes them; the plane stays coded."""
    encoded = encoded_case(name)
    assert encoded.field is not None
    tensor = loaded(name)
    wanted = reference.decode_dense(encoded)
    for first, last in ((0, encoded.rows), (5, 29), (encoded.rows - 1, encoded.rows)):
        tile = np.zeros((last - first, encoded.cols), wanted.dtype)
        mask = tensor._resident.ready(None)
        tensor._resident.decode(tile.ctypes.data, encoded.dtype, mask, first, last, True, None)
        rows = order.visited_rows(encoded.layout)[first:last]
        assert same(tile, np.ascontiguousarray(wanted.reshape(encoded.rows, -1)[rows]))
    for turns in ("falling", "a warp ahead"):
        other = host_device.load(encoded, turns=turns, n_multiprocessors=1)
        assert same(other.decode(), tensor.decode())
    parts = {part: size for part, size in tensor.memory().items() if part.startswith("field")}
    assert sum(parts.values()) <= encoded.field.data.nbytes * 1.05 + 700


@pytest.mark.parametrize("name", ["block, sorted columns", "cascade, corrections", "bmf", *gpu_cases.FIELDS])
def test_a_product_launches_what_it_says_before(name):
    """What ``prepare`` compiles is all that a captured graph needs."""
    encoded = encoded_case(name)
    for algorithm in ("tables", "tensor_cores", "binary", "decode"):
        dtype = encoded.dtype if encoded.kind == "lossless" else "F16"
        if dtype == "I8" or products.why_not(algorithm, encoded, 2, dtype, 227 << 10):
            continue
        tensor = host_device.load(encoded)
        said = [kernel.name for kernel, _ in tensor.kernels(2, dtype, algorithm=algorithm)]
        out = np.zeros((2, encoded.rows), np.float32)
        tensor.matmul(activations(2, encoded.cols, dtype), algorithm=algorithm, out=out)
        assert sorted(tensor._device.launched) == sorted(said)


def test_corrections_of_a_field():
    """Any bits of the plane: other elements then, the same by all decoders."""
    encoded = encoded_case("field, bfloat16")
    field = encoded.field
    positions = np.sort(np.random.default_rng(0).choice(field.universe, 500, replace=False))
    wrong = Corrections(positions, np.ones(500, np.uint64))
    data = np.concatenate([field.data, corrections.pack(wrong, field.universe, 1)])
    other = replaced(encoded, field=replace(field, data=data, n_corrections=500))
    wanted = reference.decode_dense(other)
    assert not same(wanted, reference.decode_dense(encoded))
    assert same(host_device.load(other).decode(), wanted.reshape(encoded.shape))


def test_tensors_share_tables():
    encoded = encoded_case("block")
    device = host_device.HostDevice()
    first, second = (GpuTensor(encoded, packed.pack(encoded), device) for _ in range(2))
    assert first.memory()["shared"] == second.memory()["shared"] > 0
    assert len(device._constants) == 4  # two networks, one code, its symbols
    assert same(first.decode(), second.decode())


PRODUCTS = [
    ("tables", 1, "F32"),
    ("tables", 3, "F16"),
    ("binary", 1, "F16"),
    ("binary", 5, "F32"),
    ("tensor_cores", 1, "F16"),
    ("tensor_cores", 8, "F32"),
    ("tensor_cores", 20, "BF16"),
    ("wide", 3, "F16"),
    ("decode", 5, "F32"),
]


@pytest.mark.parametrize(
    ("name", "algorithm", "n", "dtype"),
    # Decoded, elements of wide scales are infinite.
    [
        (name, *product)
        for name in BCQ
        for product in PRODUCTS
        if (name, product[0]) != ("wide scales", "decode")
    ],
)
def test_products(name, algorithm, n, dtype):
    encoded, tensor = encoded_case(name), loaded(name)
    # What lies on the device: packed bits are raw planes there.
    reason = products.why_not(algorithm, tensor._encoded, n, dtype, 227 << 10)
    x = activations(n, encoded.cols, dtype)
    if reason:
        with pytest.raises(ParameterError, match="cannot run here"):
            tensor.matmul(x, algorithm=algorithm)
        return
    y = tensor.matmul(x, algorithm=algorithm)
    assert y.shape == (n, encoded.rows)
    check_product(y, encoded, x, dtype, rounded=dtype if algorithm in ("decode", "wide") else None)


@pytest.mark.parametrize("name", ["unrolled", "16 lanes of 18", "unrolled, corrections", "cascade"])
@pytest.mark.parametrize("algorithm", ["tables", "tensor_cores", "binary"])
def test_same_bits_whatever_the_order_of_threads(name, algorithm):
    encoded = encoded_case(name)
    if products.why_not(algorithm, encoded, 4, "F32", 227 << 10):
        algorithm = "tables"
    x = activations(4, encoded.cols, "F32")
    tensor = loaded(name)
    first = tensor.matmul(x, algorithm=algorithm)
    tensor._device.poison()
    assert same(tensor.matmul(x, algorithm=algorithm), first)
    for turns in ("falling", "a warp ahead"):
        other = host_device.load(encoded, turns=turns)
        assert same(other.matmul(x, algorithm=algorithm), first)
        assert same(other.decode(), tensor.decode())


@pytest.mark.parametrize("algorithm", ["tables", "binary"])
@pytest.mark.parametrize("name", ["unrolled", "unrolled, half", "small", "quasi-cyclic, unrolled, R = 32"])
def test_any_number_of_multiprocessors(name, algorithm):
    """Shares of blocks begin and end anywhere in panels and segments."""
    encoded = encoded_case(name)
    algorithm = "tables" if name == "small" else algorithm
    x = activations(1, encoded.cols, "F32")
    first = loaded(name).matvec(x[0], algorithm=algorithm)
    for n_multiprocessors in (1, 2, 7, 132):
        other = host_device.load(encoded, n_multiprocessors=n_multiprocessors)
        assert same(other.matvec(x[0], algorithm=algorithm), first)


def test_binary_tensor_cores_take_every_way():
    """Groups of 4, 8, 16 chunks and a panel; no mask; constant planes; panels that are not full; 8, 16 and 32 rows."""
    taken = {}
    for name in BCQ:
        encoded = loaded(name)._encoded
        if encoded.n_kept and not products.why_not("binary", encoded, 1, "F16", 227 << 10):
            (kernel,) = (
                each
                for each, _ in loaded(name).kernels(1, algorithm="binary")
                if each.name == "coded_product"
            )
            taken[name] = dict(kernel.macros)
    assert {int(macros["GROUP_SHIFT"]) for macros in taken.values()} == {2, 3, 4, 5}
    assert {int(macros["MASK"]) for macros in taken.values()} == {0, 1}
    assert {int(macros["SKEW"]) for macros in taken.values()} == {0, 1}
    assert {int(macros["DISTINCT"]) for macros in taken.values()} == {8, 16, 32}
    assert {int(macros["PLANES"]) for macros in taken.values()} == {1, 2, 3, 4}
    assert any(int(macros["BITS"]) > int(macros["PLANES"]) for macros in taken.values())


FAST = {"unrolled": 65104, "unrolled, groups of 512": 65104, "unrolled, row scales": 30583}
"""Half a unit of activations is less than the panel's largest by this, where groups are below a panel, and others."""


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", FAST)
def test_fast_products(name, n):
    """Within what rounding of activations explains, ten times as far from exact as the default at least."""
    encoded, tensor = encoded_case(name), loaded(name)
    x = activations(n, encoded.cols, "F32")
    x[:, 7] = 1.999 * np.abs(x).max()  # near the largest number that digits hold
    wanted, sizes = gpu_cases.products(encoded, x)
    largest = np.abs(x).reshape(n, -1, 1024).max(axis=2).repeat(1024, axis=1)
    bound = gpu_cases.products(encoded, largest)[1] / FAST[name] + 2.0**-22 * sizes
    error = np.abs(tensor.matmul(x, precision="fast") - wanted)
    exact = np.abs(tensor.matmul(x, algorithm="binary") - wanted)
    assert (error <= bound).all()
    assert np.sqrt((error**2).mean()) > 10 * np.sqrt((exact**2).mean())


def test_a_fast_product_says_why_not():
    x = activations(1, 1024, "F16")
    with pytest.raises(ParameterError, match="the GPU has no binary tensor cores"):
        host_device.load(encoded_case("unrolled"), counts_bits=False).matvec(x, precision="fast")
    with pytest.raises(ParameterError, match="it is for algorithm 'binary', not 'tables'"):
        loaded("unrolled").matvec(x, precision="fast", algorithm="tables")
    with pytest.raises(ParameterError, match="9 columns are more than 8"):
        loaded("unrolled").prepare(9, precision="fast")
    with pytest.raises(ParameterError, match="'int8' is not one of float32, fast"):
        loaded("unrolled").matvec(x, precision="int8")


@pytest.mark.parametrize("largest", [1.0, 1.6677, 1.6678, 1.9677734375, 1.96826171875, 1.9999998807907104])
@pytest.mark.parametrize("name", ["unrolled", "unrolled, row scales"])
def test_digits_hold_the_largest_number(name, largest):
    encoded = encoded_case(name)
    for sign in (-1, 1):
        x = np.full((1, encoded.cols), sign * largest, np.float32)
        check_product(loaded(name).matvec(x, algorithm="binary"), encoded, x, "F32")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_activations_that_are_not_finite_reach_all_rows(value):
    x = activations(2, 1024, "F16")
    x[1, 77] = value
    y = loaded("unrolled").matvec(x, algorithm="binary")
    assert np.isnan(y[1]).all()
    assert np.isfinite(y[0]).all()


def test_a_warp_takes_many_tiles():
    encoded = xorpack.encode(bcq((17_000, 40), 0.9, 1), mask_codec="cascade")
    tensor = host_device.load(encoded, n_multiprocessors=1)
    launch = decode_launch(encoded.layout, encoded.rows, 1, 1, 227 << 10)
    n_warps = launch.grid[0] * launch.block // 32
    assert -(-encoded.rows // lists.TILE_ROWS) * encoded.layout.n_panels > n_warps
    assert same(tensor.decode(), reference.decode_dense(encoded))


@pytest.mark.parametrize("turns", host_device.TURNS)
@pytest.mark.parametrize("algorithm", ["tables", "tensor_cores"])
def test_a_block_takes_many_panels(algorithm, turns):
    encoded = encoded_case("unrolled, four panels")
    tensor = host_device.load(encoded, n_multiprocessors=1, turns=turns)
    x = activations(9 if algorithm == "tensor_cores" else 2, encoded.cols, "BF16")
    check_product(tensor.matmul(x, algorithm=algorithm), encoded, x, "BF16")


@pytest.mark.parametrize("name", ["unrolled", "small"])
def test_small_shared_memory(name):
    """Five tables instead of four, as on GPUs with 99 KiB."""
    encoded = encoded_case(name)
    tensor = host_device.load(encoded, shared_limit=99 << 10)
    x = activations(2, encoded.cols, "F16")
    check_product(tensor.matmul(x, algorithm="tables"), encoded, x, "F16")
    check_product(tensor.matmul(x, algorithm="tensor_cores"), encoded, x, "F16")


@pytest.mark.parametrize("algorithm", ["tables", "tensor_cores", "binary"])
def test_activations_of_any_size(algorithm):
    encoded = encoded_case("unrolled")
    x = activations(2, encoded.cols, "F32")
    x *= np.random.default_rng(3).choice([1e-30, 1.0, 1e30], x.shape).astype(np.float32)
    check_product(loaded("unrolled").matmul(x, algorithm=algorithm), encoded, x, "F32")
    x = (x * 0 + np.float32(1.5e38)) * np.eye(2, encoded.cols, 5, dtype=np.float32)
    check_product(loaded("unrolled").matmul(x, algorithm=algorithm), encoded, x, "F32")


@pytest.mark.parametrize("name", ["unrolled", "unrolled, half", "unrolled, four panels"])
def test_errors_of_one_sign(name):
    """Tensor cores round toward zero: all activations positive, and a few that are 1000 times larger."""
    encoded = encoded_case(name)
    x = np.abs(activations(9, encoded.cols, "F16")) + np.float16(0.5)
    check_product(loaded(name).matmul(x, algorithm="tensor_cores"), encoded, x, "F16")
    x[:, :: encoded.cols // 7] *= 1000
    check_product(loaded(name).matmul(x, algorithm="tensor_cores"), encoded, x, "F16")


def test_nan_reaches_the_rows_that_keep_its_weight():
    encoded = encoded_case("unrolled")
    x = np.ones((1, encoded.cols), np.float32)
    x[0, 77] = np.nan
    mask, _ = reference.decode_planes(encoded)
    kept = mask[:, 77 // 32] >> (77 % 32) & 1
    assert (np.isnan(loaded("unrolled").matmul(x, algorithm="tables")[0]) == kept).all()


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("algorithm", ["tables", "tensor_cores", "binary", "decode"])
def test_out_of_any_type_with_strides(algorithm, dtype):
    encoded, tensor = encoded_case("unrolled"), loaded("unrolled")
    wide = activations(6, encoded.cols + 9, "F16")
    x = wide[::2, : encoded.cols]
    frame = np.full((3, encoded.rows + 5), 7, DTYPES[dtype])
    out = frame[:, : encoded.rows]
    tensor.matmul(x, algorithm=algorithm, out=out)
    before = tensor._device.allocations
    assert tensor.matmul(x, algorithm=algorithm, out=out) is out
    assert tensor._device.allocations == before
    check_product(out, encoded, x, dtype, rounded="F16" if algorithm == "decode" else None)
    assert (frame[:, encoded.rows :] == 7).all()


@pytest.mark.parametrize("name", ["unrolled, corrections", "wide", "field, bfloat16", "lossless unrolled"])
def test_corrections_in_many_tiles(name):
    """Tiles that end within rows and columns."""
    encoded = encoded_case(name)
    starts, _, _ = lists.tiled(encoded.layout, encoded.load_corrections())
    assert np.count_nonzero(np.diff(starts.astype(np.int64))) > 1
    assert encoded.rows % lists.TILE_ROWS
    tensor = host_device.load(encoded)
    assert same(tensor.decode(), reference.decode_dense(encoded).reshape(encoded.shape))
    if encoded.kind == "bcq":
        x = activations(1, encoded.cols, "F32")
        check_product(tensor.matmul(x, algorithm="tables"), encoded, x, "F32")


def test_too_many_corrections_for_the_device():
    class Endless(list):
        def __len__(self):
            return 1 << 32

    with pytest.raises(ParameterError, match="fewer than 2\\^32"):
        lists.starts(Endless(), 1)


@pytest.mark.parametrize("name", ["cascade, unrolled", "block, unrolled", "block, sorted columns", "bmf"])
def test_nothing_is_allocated_after_prepare(name):
    encoded = encoded_case(name)
    tensor = host_device.load(encoded)
    x, out = activations(2, encoded.cols, "F16"), np.zeros((2, encoded.rows), np.float32)
    for algorithm in ("auto", "tables", "decode"):
        tensor.prepare(2, "F16", algorithm=algorithm)
        before = tensor._device.allocations
        tensor.matmul(x, out=out, algorithm=algorithm)
        assert tensor._device.allocations == before


def test_memory_of_a_loaded_tensor():
    """Code and mask keep their size; corrections are 3 bytes each, their tiles 4."""
    encoded = encoded_case("unrolled, corrections")
    memory = loaded("unrolled, corrections").memory()
    parts = ("code", "mask", "scales", "starts", "entries", "values")
    assert memory["code"] == encoded.code.nbytes
    assert memory["mask"] == encoded.mask.data.nbytes + order.MASK_PADDING * 32 * 4
    assert memory["entries"] + memory["values"] == 3 * encoded.n_corrections
    assert memory["starts"] == 4 * (-(-encoded.rows // 32) + 1)
    assert memory["total"] == sum(memory[part] for part in parts)
    assert memory["stored"] == sum(encoded.section_bytes().values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, out: (x.astype(np.float64), out), "x of type float64"),
        (lambda x, out: (x[:, 1:], out), "x of shape"),
        (lambda x, out: (np.asfortranarray(x), out), "last axis must be contiguous"),
        (lambda x, out: (x[:, ::-1], out), "last axis must be contiguous"),
        (lambda x, out: (x, out[:1]), "out of shape"),
        (lambda x, out: (x, out.astype(np.int8)), "out of type"),
        (lambda x, out: (x, np.asfortranarray(out)), "out of strides"),
        (lambda x, out: (np.repeat(x, 5, axis=0), out), "use matmul"),
        (lambda x, out: (x[None], out), "x of shape"),
    ],
)
def test_bad_arguments(change, words):
    x, out = change(activations(2, 1024, "F16"), np.zeros((2, 150), np.float32))
    with pytest.raises(ParameterError, match=words):
        loaded("unrolled").matvec(x, out=out)


@pytest.mark.parametrize("algorithm", ["auto", "tables", "tensor_cores", "decode"])
def test_no_rows_of_x(algorithm):
    assert loaded("unrolled").matmul(activations(0, 1024, "F16"), algorithm=algorithm).shape == (0, 150)


def test_bad_options():
    tensor, x = loaded("unrolled"), activations(2, 1024, "F16")
    out = np.zeros((2, 150), np.float32)
    out.flags.writeable = False
    with pytest.raises(ParameterError, match="read-only"):
        tensor.matvec(x, out=out)
    with pytest.raises(ParameterError, match="not one of auto, tables"):
        tensor.matvec(x, algorithm="fast")
    with pytest.raises(ParameterError, match="decodes to F32, F16, BF16"):
        tensor.decode("I8")
    with pytest.raises(ParameterError, match="decodes to I8"):
        loaded("lossless int8").decode("F32")
    with pytest.raises(ParameterError, match="is decoded on a GPU, not multiplied"):
        loaded("lossless int8").matmul(activations(2, 260, "F32"))
    with pytest.raises(ParameterError, match="not 'stored' or 'bitmap'"):
        host_device.load(encoded_case("small"), "raw")


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_lossless_product(kind):
    name = f"lossless {np.dtype(kind).name}"
    encoded, tensor = encoded_case(name), loaded(name)
    x = activations(3, encoded.cols, encoded.dtype)
    wanted = x.astype(np.float64) @ reference.decode_dense(encoded).astype(np.float64).T
    out = np.zeros((3, encoded.rows), np.float32)
    np.testing.assert_allclose(tensor.matmul(x, out=out), wanted, rtol=1e-5, atol=1e-3)
