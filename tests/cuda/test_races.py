"""No two threads touch a byte without a barrier between (``cuda_races.h``); and a missing barrier is noticed."""

from __future__ import annotations

import re
from fractions import Fraction

import gpu_cases
import host_device
import numpy as np
import pytest
from host_device import HostDevice

from xorpack import XorNetwork
from xorpack.code.layout import Layout
from xorpack.code.words import n_chunks, pack, popcount
from xorpack.cuda import sources
from xorpack.decoders.gpu import GpuTensor
from xorpack.decoders.gpu.packed import pack as for_device
from xorpack.encoding.quantize.trellis_design import design
from xorpack.encoding.quantize.trellis_search import Search
from xorpack.encoding.rings.elimination_gpu import DeviceRings
from xorpack.encoding.rings.gather import PlaneSource

pytestmark = pytest.mark.skipif(
    host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU"
)
CASES = gpu_cases.BCQ | gpu_cases.LOSSLESS | gpu_cases.TRELLIS


def decode(name):
    GpuTensor(encoded := CASES[name](), for_device(encoded), HostDevice(races=True)).decode()


def multiply(name, algorithm, n):
    """One block takes all panels."""
    encoded = CASES[name]()
    x = np.random.default_rng(n).standard_normal((n, encoded.cols)).astype(np.float16)
    device = HostDevice(races=True, n_multiprocessors=1)
    GpuTensor(encoded, for_device(encoded), device).matmul(x, algorithm=algorithm)


def eliminate(kept, large, *, lanes=2, shape=(40, 400), n_planes=2):
    """Rings of rows that keep all or next to nothing, so that batches wait for each other."""
    rng = np.random.default_rng(0)
    mask = pack(rng.random(shape) < np.where(rng.random((shape[0], 1)) < 0.2, 1.0, kept))
    source = PlaneSource(mask, np.stack([pack(rng.random(shape) < 0.5) & mask for _ in range(n_planes)]))
    layout = Layout.choose(*shape, popcount(mask), lanes=lanes)
    network = XorNetwork.turned()
    rings = DeviceRings(HostDevice(races=True), network, source, layout)
    list(rings.encode([0], network.n_code_words(layout.n_steps, 0.25), large=large))


def search(rate, window, rows, cols=33):
    found, rng = design(Fraction(rate), window), np.random.default_rng(rows)
    search = Search(
        weight=rng.standard_normal((rows, cols)).astype(np.float32),
        network=found.network,
        a=np.array(found.a),
        scales=np.ones((rows, 1)),
        gains=np.ones(cols),
        group=cols,
        care=pack(rng.random((rows, cols)) < 0.9),
        importance=np.ones((1, cols), np.float32),
        fine=False,
    )
    code = np.zeros((search.network.n_stored(rows), n_chunks(cols)), np.uint32)
    search.run(code, range(code.shape[1]), 1, HostDevice(races=True))


@pytest.mark.parametrize(
    "name",
    [
        "small",
        "turned, unrolled, segments",
        "cascade, corrections",
        "block, sorted columns",
        "field, float16, unrolled",
        "hostile bfloat16",
        "trellis, bitmap",
    ],
)
def test_decoding(name):
    decode(name)


@pytest.mark.parametrize(
    ("name", "algorithm", "n"),
    [
        ("unrolled, four panels", "binary", 2),
        ("quasi-cyclic, unrolled, half", "binary", 1),
        ("unrolled, corrections", "tables", 2),
        ("unrolled, half", "tensor_cores", 17),
        ("unrolled", "decode", 3),
        ("trellis, odd", "binary", 3),
        ("trellis, period", "trellis_tiles", 70),
    ],
)
def test_products(name, algorithm, n):
    multiply(name, algorithm, n)


@pytest.mark.parametrize("large", [1 << 62, 0], ids=["border", "fixed"])
@pytest.mark.parametrize("n_planes", [2, 40])
def test_elimination(large, n_planes):
    eliminate(0.01, large, n_planes=n_planes)


@pytest.mark.parametrize(
    ("rate", "window", "rows"), [("2", 8, 70), ("3/2", 9, 91), ("1/2", 8, 201), ("2", 12, 30)]
)
def test_search(rate, window, rows):
    search(rate, window, rows)


BARRIER = re.compile(r"__sync(?:threads|warp)\(\);")
RUNS = {
    "elimination": lambda: eliminate(0.01, 1 << 62),
    "trellis_search": lambda: search("2", 10, 50, 3),
    "digits": lambda: multiply("unrolled", "binary", 1),
    "matvec": lambda: multiply("unrolled, four panels", "tables", 1),
    "matmul": lambda: multiply("unrolled, four panels", "tensor_cores", 9),
    "trellis_matmul": lambda: multiply("trellis", "trellis_tiles", 9),
}
"""What needs each barrier of a file."""
UNORDERED = {("elimination", 6), ("matvec", 0), ("trellis_search", 2), ("trellis_search", 4)}
"""Barriers that order nothing in memory: lanes that went two ways meet again, lookups are kept apart; and a search has
two that others stand in for, as long as the steps around a seam are even."""


def barriers():
    """Where they stand, of each file those that are of its own kernels: ``(file, number)``."""
    return [(file, n) for file in RUNS for n, _ in enumerate(BARRIER.findall(sources._text(file)))]


def change(monkeypatch, file, edit):
    """Compile the text of a file after ``edit``."""
    text = edit(usual := sources._text(file))
    assert text != usual
    other = sources._text
    monkeypatch.setattr(sources, "_text", lambda name: text if name == file else other(name))
    host_device.compiled.cache_clear()


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    host_device.compiled.cache_clear()


@pytest.mark.parametrize(("file", "number"), barriers())
def test_a_missing_barrier_is_noticed(monkeypatch, file, number):
    def drop(text):
        places = [found.span() for found in BARRIER.finditer(text)]
        begin, end = places[number]
        return text[:begin] + ";" + text[end:]

    change(monkeypatch, file, drop)
    if (file, number) in UNORDERED:
        RUNS[file]()
    else:
        with pytest.raises(AssertionError, match="a race: thread"):
            RUNS[file]()


@pytest.mark.parametrize(
    ("usual", "early"),
    [
        ("seen = boards + (turn & 1)", "seen = boards + (~turn & 1)"),
        ("= min(id, later)", "= min(id + 1, later)"),
        ("former[XP_NEXT] > (u32)id", "former[XP_NEXT] >= (u32)id"),
        ("former[XP_BATCH] >= batch", "former[XP_BATCH] + 1 >= batch"),
    ],
)
def test_a_batch_that_is_let_in_too_early_is_noticed(monkeypatch, usual, early):
    """Of two batches in one word, one takes the pivots that the other still makes."""
    change(monkeypatch, "elimination", lambda text: text.replace(usual, early))
    with pytest.raises(AssertionError, match="ring_eliminate: a race"):
        eliminate(0.01, 1 << 62)
