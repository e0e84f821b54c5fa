"""Launches, orders and the choice of an algorithm, as plain numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gpu_cases import BCQ
from hypothesis import given
from hypothesis import strategies as st
from samples import bcq, replaced

import xorpack
from xorpack import XorNetwork
from xorpack.code.layout import Layout
from xorpack.decoders.gpu import order, products
from xorpack.decoders.gpu.launches import decode_launch
from xorpack.decoders.gpu.packed import pack
from xorpack.decoders.gpu.products.decode import DECODE_TILE_BYTES, decode_tile_rows
from xorpack.decoders.gpu.products.product import finish_launch
from xorpack.decoders.gpu.products.tables import matvec_launch, table_fields
from xorpack.decoders.gpu.products.tensor_cores import matmul_plan
from xorpack.errors import CorruptError, FormatError, ParameterError

LARGE = Layout(rows=49152, cols=12288, lanes=32, n_steps=10170, row_stride=30377)
SHARED = (99 << 10, 163 << 10, 227 << 10)


@given(st.integers(0, 2**63 - 1), st.integers(1, 2**62))
def test_reciprocals_divide(x, n):
    """The kernels' division: an estimate that is at most one too small."""
    estimate = x * order.reciprocal(n) >> 64
    assert x // n - 1 <= estimate <= x // n


@given(st.integers(0, 31), st.integers(1, 3999), st.data())
def test_group_of_a_chunk_by_a_24_bit_reciprocal(k, many, data):
    lead = data.draw(st.integers(0, many - 1))
    by_many = ((1 << 24) + many - 1) // many
    assert (k + lead) * by_many < 1 << 32
    assert (k + lead) * by_many >> 24 == (k + lead) // many


@pytest.mark.parametrize("layout", [LARGE, Layout(rows=30, cols=100, lanes=4, n_steps=30, row_stride=19)])
def test_order_of_visits(layout):
    words = np.arange(layout.rows * layout.chunks, dtype=np.uint32).reshape(layout.rows, layout.chunks)
    found = order.by_visit(layout, words)
    assert found.shape == (layout.n_panels, layout.rows, layout.panel_chunks)
    rng = np.random.default_rng(0)
    for _ in range(100):
        p, i, slot = (int(rng.integers(n)) for n in found.shape)
        k = (slot + i) % 32 if order.is_skewed(layout) else slot
        chunk = p * layout.panel_chunks + k
        wanted = words[i * layout.row_stride % layout.rows, chunk] if chunk < layout.chunks else 0
        assert found[p, i, slot] == wanted


@pytest.mark.parametrize("name", [name for name in BCQ if name not in ("empty", "no columns")])
def test_scales_lie_where_the_kernels_look(name):
    encoded = BCQ[name]()
    assert encoded.rows * encoded.cols
    packed = pack(encoded)
    layout, q = packed.layout, encoded.bits
    lies = order.ScaleOrder.of(layout, encoded.group_size, q)
    scales = packed.arrays["scales"][lies.padding :]
    rows = order.visited_rows(layout)
    for i in (0, layout.rows // 2, layout.rows - 1):
        for col in (0, layout.cols // 2, layout.cols - 1):
            p, g = col // (32 * layout.panel_chunks), col // lies.group
            at = p * lies.panel + i * lies.row + (g - p * lies.groups_per_panel) * q
            assert (scales[at : at + q] == encoded.scales[rows[i], g]).all()


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("n", [1, 2, 8, 9, 40, 256, 5000])
@pytest.mark.parametrize("n_planes", [1, 2, 4, 8])
def test_launches_stay_within_the_hardware(n, n_planes, shared):
    for multiprocessors in (1, 82, 132):
        fields = table_fields(shared)
        launches = [
            decode_launch(LARGE, LARGE.rows, n_planes, multiprocessors, shared),
            matvec_launch(LARGE, n, n_planes, multiprocessors, fields),
            finish_launch(LARGE, n),
        ]
        for parts in (1, 3):
            found = matmul_plan(LARGE, n_planes, n, parts, multiprocessors, shared)
            launches.append(found.launch)
            assert found.launch.grid[2] * 8 * found.tiles >= n
            assert 1 <= found.splits <= LARGE.n_panels
        for launch in launches:
            assert launch.shared_bytes <= shared
            assert launch.block <= 1024
            assert launch.block % 32 == 0
            assert all(1 <= size for size in launch.grid)  # noqa: SIM300
            assert launch.grid[0] < 1 << 31
            assert max(launch.grid[1:]) <= 65535


def test_tiles_of_the_decode_algorithm_cover_the_rows():
    step = decode_tile_rows(LARGE, 2)
    assert step % 16 == 0
    assert 256 <= step <= LARGE.rows
    assert step * LARGE.cols * 2 <= DECODE_TILE_BYTES


def test_which_networks_are_unrolled():
    network = XorNetwork.quasi_cyclic()
    assert order.can_unroll(LARGE, network, 1024, 2)
    assert not order.can_unroll(LARGE, network, 0, 2)
    assert not order.can_unroll(LARGE, network, 10171, 2)
    assert not order.can_unroll(LARGE, network, 1024, 5)
    assert not order.can_unroll(LARGE, XorNetwork.quasi_cyclic(n_rows=64), 1024, 2)
    assert not order.can_unroll(LARGE, XorNetwork.quasi_cyclic(n_rows=12), 1024, 2)
    assert not order.can_unroll(LARGE, XorNetwork.sparse(n_in=12, n_out=16), 1024, 2)
    assert order.can_unroll(LARGE, XorNetwork.turned(), 1024, 2)
    long = Layout(rows=1 << 30, cols=1024, lanes=32, n_steps=1 << 30, row_stride=1)
    assert order.can_unroll(long, XorNetwork.turned(), 1 << 27, 2)
    assert not order.can_unroll(long, XorNetwork.turned(), 1 << 28, 2)  # 8 of them: 2^31


@pytest.mark.parametrize(
    ("n", "chosen", "emulated"),
    [
        (1, "binary", "tables"),
        (8, "binary", "tensor_cores"),
        (9, "tensor_cores", "tensor_cores"),
        (128, "tensor_cores", "tensor_cores"),
        (129, "wide", "decode"),
        (1000, "wide", "decode"),
    ],
)
def test_what_auto_chooses(n, chosen, emulated):
    """Binary tensor cores where there are some, and the window stays in registers."""
    tensor = bcq((64, 1024), 0.5, 2, group_size=128, dtype="F16")
    encoded = xorpack.encode(tensor, lanes=32)
    assert products.choose("auto", encoded, n, "F16", 227 << 10) == chosen
    assert (
        products.choose("auto", encoded, n, "F16", 227 << 10, counts_bits=False, warpgroups=False) == emulated
    )
    other = xorpack.encode(tensor, lanes=16)
    if n <= 128:
        assert products.choose("auto", other, n, "F16", 227 << 10) == emulated
    assert products.choose("auto", encoded, n, "F32", 227 << 10) == ("decode" if n > 128 else chosen)
    assert products.choose("auto", encoded, n, "F16", 99 << 10, warpgroups=False) == (
        "decode" if n > 128 else chosen
    )


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"lanes": 16}, "cannot keep this code's window in registers"),
        ({"lanes": 32, "network": XorNetwork.quasi_cyclic(n_rows=24)}, "taps repeat after 24 steps"),
        ({"lanes": 32, "group_size": 32}, "group_size 32"),
        ({"lanes": 32, "group_size": 384}, "group_size 384"),
    ],
)
def test_where_binary_tensor_cores_cannot_multiply(options, why):
    tensor = bcq((64, 1024), 0.5, 2, group_size=options.pop("group_size", 128), dtype="F16")
    encoded = xorpack.encode(tensor, **options)
    with pytest.raises(ParameterError, match=why):
        products.choose("binary", encoded, 1, "F16", 227 << 10)
    with pytest.raises(ParameterError, match="9 columns are more than 8"):
        products.choose("binary", encoded, 9, "F16", 227 << 10)


def test_auto_falls_back_and_says_why_where_it_cannot():
    encoded = xorpack.encode(bcq((64, 256), 0.5, 2, group_size=20, dtype="F16"))
    assert products.choose("auto", encoded, 1, "F16", 227 << 10) == "decode"
    with pytest.raises(ParameterError, match="group_size 20 is no multiple of 32"):
        products.choose("tables", encoded, 1, "F16", 227 << 10)
    with pytest.raises(ParameterError, match="group_size 20 is no multiple of 128"):
        products.choose("tensor_cores", encoded, 1, "F16", 227 << 10)


def test_damage_is_found_before_anything_is_uploaded():
    encoded = xorpack.encode(bcq((64, 256), 0.5, 2), mask_codec="bitmap")
    data = encoded.mask.data.copy()
    data[3] ^= 1
    with pytest.raises(FormatError, match="the mask keeps"):
        pack(replaced(encoded, mask=replace(encoded.mask, data=data)))
    with pytest.raises(CorruptError, match="do not match their checksum"):
        pack(replaced(encoded, stored_sha256="0" * 64))
    scales = encoded.scales.copy()
    scales[0, 0, 0] = np.inf
    with pytest.raises(FormatError, match="NaN or infinite"):
        pack(replaced(encoded, scales=scales))


def test_memory_beside_the_file():
    """Groups of 128, 4096 columns: device memory is the file's bytes within 1 %, taps and padding aside."""
    tensor = bcq((512, 4096), 0.9, 2, group_size=128, dtype="F16")
    encoded = xorpack.encode(tensor, mask_codec="bitmap")
    arrays = pack(encoded).arrays
    fixed = 8 * 128 + 2 * (8 * 8 + 33) * 2 * 2
    total = sum(array.nbytes for array in arrays.values())
    assert total - fixed <= 1.01 * sum(encoded.section_bytes().values())
