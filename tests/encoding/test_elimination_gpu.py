"""Elimination on a GPU: its own text run on the CPU, or on a GPU, gives the codes and corrections of the CPU's."""

from __future__ import annotations

import sys

import host_device
import numpy as np
import pytest
from samples import bcq, pruned, same

import xorpack
from xorpack import XorNetwork
from xorpack.code import layout as layouts
from xorpack.code.layout import Layout
from xorpack.code.words import pack, popcount
from xorpack.encoding.rings import elimination_gpu
from xorpack.encoding.rings.elimination import LARGE_RING, GivenUpError, encode_ring
from xorpack.encoding.rings.elimination_gpu import DeviceRings
from xorpack.encoding.rings.gather import ElementSource, FilteredSource, PlaneSource
from xorpack.errors import DeviceError, ParameterError

on_cpu = pytest.mark.skipif(
    host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU"
)
KERNELS = ["ring_equations", "ring_eliminate", "ring_solve"]
BORDER, FIXED = 1 << 62, 0
"""Stored words from which on a ring's first words are fixed to 0: never, always."""

QUASI_CYCLIC, TURNED = XorNetwork.quasi_cyclic(), XorNetwork.turned()
CASES = {
    "quasi-cyclic": ((QUASI_CYCLIC, (33, 300), 0.5, 2, 0.5), {}),
    "quasi-cyclic, fixed": ((QUASI_CYCLIC, (33, 300), 0.5, 2, 0.5), {"large": FIXED}),
    "turned": ((TURNED, (70, 310), 0.1, 2, 0.103), {}),
    "turned, fixed": ((TURNED, (70, 310), 0.1, 2, 0.11), {"large": FIXED}),
    "turned, hold 2, all kept": ((XorNetwork.turned(hold=2), (31, 97), 1.0, 2, 0.98), {}),
    "turned, window 16": ((XorNetwork.turned(window=16, hold=4), (40, 200), 0.5, 3, 0.51), {}),
    "turned, window 6, fixed": ((XorNetwork.turned(window=6, n_rows=16), (40, 200), 0.3, 4, 0.31), {"large": FIXED}),
    "a narrow window": ((XorNetwork.quasi_cyclic(window=1, n_taps=3, n_rows=3), (20, 64), 0.5, 1, 0.6), {}),
    "a window of 5": ((XorNetwork.quasi_cyclic(window=5, n_taps=5), (20, 90), 0.5, 2, 0.45), {}),
    "far too few words": ((TURNED, (40, 200), 0.5, 2, 0.2), {}),
    "far too few words, fixed": ((TURNED, (40, 200), 0.5, 2, 0.2), {"large": FIXED}),
    "far too many words": ((TURNED, (40, 200), 0.1, 2, 0.9), {}),
    "one word": ((QUASI_CYCLIC, (3, 33), 0.5, 2, 0.01), {}),
    "one word, fixed": ((QUASI_CYCLIC, (3, 33), 0.5, 2, 0.01), {"large": FIXED}),
    "as many words as a window": ((QUASI_CYCLIC, (4, 96), 0.5, 2, 1.0), {"lanes": 1}),
    "nothing kept": ((TURNED, (9, 64), 0.0, 2, 0.5), {}),
    "64 planes": ((QUASI_CYCLIC, (10, 64), 0.5, 64, 0.3), {}),
    "Weight Encryption": ((XorNetwork.dense(n_in=3, n_out=8, n_s=2), (20, 200), 0.4, 2, 1), {}),
    "FleXOR, fixed": ((XorNetwork.sparse(n_in=5, n_out=13, n_s=1), (20, 200), 0.3, 2, 1), {"large": FIXED}),
    "lanes and rings": ((TURNED, (30, 1000), 0.5, 2, 0.51), {"lanes": 5, "n_rings": 3}),
    "lanes and rings, fixed": ((QUASI_CYCLIC, (30, 1000), 0.5, 2, 0.5), {"lanes": 32, "n_rings": 2, "large": FIXED}),
    "crowds": ((TURNED, (40, 400), "crowds", 2, 0.2), {"lanes": 1, "large": FIXED}),
    "crowds, border": ((TURNED, (40, 400), "crowds", 2, 0.25), {"lanes": 2}),
    "bursts": ((XorNetwork.turned(window=16, hold=2), (800, 32), "bursts", 2, 0.2), {"lanes": 1, "large": FIXED}),
}  # fmt: skip


def mask_of(shape, kept):
    """A mask; one of crowds has rows that keep all weights, and rows that keep next to none.

    One of bursts keeps many for 40 steps, more than code holds, then none for 30: equations of a batch begin far from
    each other, and those of the next one where the last of these do.
    """
    rng = np.random.default_rng([1, *shape])
    if kept == "bursts":
        steps = np.arange(shape[0])
        rows = steps * Layout.choose(*shape, 1000, lanes=1).row_stride % shape[0]
        kept = np.zeros((shape[0], 1))
        kept[rows, 0] = np.where(steps % 70 < 40, 0.9, 0)
    elif kept == "crowds":
        kept = np.where(rng.random((shape[0], 1)) < 0.2, 1.0, 0.003)
    return pack(rng.random(shape) < kept)


def source_of(shape, kept, q):
    mask, rng = mask_of(shape, kept), np.random.default_rng([2, *shape])
    return PlaneSource(mask, np.stack([pack(rng.random(shape) < 0.5) & mask for _ in range(q)]))


def check(device, network, shape, kept, q, rate, *, lanes=None, n_rings=1, large=LARGE_RING):
    """Compare all rings, in another order than theirs; returns how many corrections there are."""
    source = source_of(shape, kept, q)
    one = Layout.choose(*shape, popcount(source.mask), lanes=lanes)
    n_steps = -(-one.total_steps // n_rings)
    layout = Layout(rows=shape[0], cols=shape[1], lanes=one.lanes, n_steps=n_steps, row_stride=one.row_stride)
    m_lane = max(1, network.n_code_words(n_steps, rate))
    rings = DeviceRings(device, network, source, layout)
    segments = list(range(layout.n_segments))[::-1]
    found = list(rings.encode(segments, m_lane, large=large))
    n_wrong = 0
    for segment, ring in zip(segments, found, strict=True):
        care, planes = source.ring(layout, segment)
        assert rings.counts[segment] == popcount(care)
        wanted = encode_ring(network, care, planes, m_lane, large=large)
        assert all(map(same, ring, wanted))
        n_wrong += wanted.positions.size
    return n_wrong


@on_cpu
@pytest.mark.parametrize("name", CASES)
def test_same_codes(name):
    args, options = CASES[name]
    device = host_device.HostDevice()
    n_wrong = check(device, *args, **options)
    assert device.launched == ["ring_equations", *KERNELS]
    assert device.apart == 0
    assert n_wrong or not name.startswith(("far too few", "one word"))


@on_cpu
@pytest.mark.parametrize("turns", ["falling", "a warp ahead"])
@pytest.mark.parametrize("name", ["turned", "crowds", "lanes and rings"])
def test_same_codes_whatever_the_order_of_threads(name, turns):
    args, options = CASES[name]
    check(host_device.HostDevice(turns=turns), *args, **options)


@on_cpu
def test_rings_that_do_not_fit_memory_together(monkeypatch):
    monkeypatch.setattr(elimination_gpu, "PIVOT_BYTES", 1_600_000)
    device = host_device.HostDevice()
    args, options = CASES["lanes and rings"]
    check(device, *args, **options)
    assert device.launched == ["ring_equations", *KERNELS, *KERNELS]


@on_cpu
def test_a_ring_is_given_up():
    """Where there are as many corrections as its caller has no use for; and not where there is one less."""
    source = source_of((40, 200), 0.5, 2)
    layout = Layout.choose(40, 200, popcount(source.mask))
    rings = DeviceRings(host_device.HostDevice(), TURNED, source, layout)
    n_wrong = len(next(rings.encode([0], 60)).positions)
    assert n_wrong > 500
    for most in (n_wrong, 1):
        with pytest.raises(GivenUpError):
            list(rings.encode([0], 60, most=most))
    assert len(next(rings.encode([0], 60, most=n_wrong + 1)).positions) == n_wrong


def test_words_are_those_of_the_rings():
    """Of every source, with planes that are not coded."""
    rng = np.random.default_rng(0)
    elements = ElementSource(pruned((20, 70), 0.5, np.float16))
    elements.coded = [0, 3, 15]
    planes = source_of((20, 70), 0.5, 3)
    planes.coded = [0, 2]
    filtered = FilteredSource(planes, rng.integers(0, 1 << 32, (2, 20, 3), np.uint32))
    layout = Layout.choose(20, 70, 700)
    places = layout.word_index(np.arange(layout.n_steps)).T
    for source, n in ((elements, 3), (planes, 2), (filtered, 4)):
        found, wanted = source.words(), source.ring(layout, 0)
        for whole, ring in zip(found, wanted, strict=True):
            words = np.where(places < 0, 0, whole.reshape(*whole.shape[:-2], -1)[..., places])
            assert same(words, ring)
        assert len(found[1]) == n


def lossless(shape, sparsity=0.5):
    return pruned(shape, sparsity, np.float16)


WHOLE = {
    "q 1": (bcq((64, 300), 0.5, 1), {}),
    "q 2, most pruned": (bcq((128, 260), 0.9, 2), {}),
    "q 3, a rate": (bcq((40, 200), 0.5, 3), {"rate": 0.52, "lanes": 2}),
    "q 4, quasi-cyclic": (bcq((31, 200), 0.6, 4), {"network": QUASI_CYCLIC}),
    "a cascade": (bcq((64, 300), 0.9, 2), {"mask_codec": "cascade"}),
    "all pruned": (bcq((31, 65), 1.1, 2), {}),
    "nothing pruned": (bcq((31, 65), 0.0, 2), {}),
    "nothing pruned, turned": (bcq((31, 65), 0.0, 2), {"network": TURNED}),
    "empty": (bcq((0, 5)), {}),
    "lossless": (lossless((40, 90)), {}),
    "lossless, fields": (lossless((64, 200)), {"field": "always"}),
    "prefer speed, xor": (bcq((31, 65), 0.5, 2), {"prefer": "speed", "payload": "xor"}),
}


def check_whole(name):
    tensor, options = WHOLE[name]
    found = xorpack.encode(tensor, device="cuda", **options)
    wanted = xorpack.encode(tensor, **options)
    sections = found.sections()
    assert sections.keys() == wanted.sections().keys()
    assert all(same(sections[key], section) for key, section in wanted.sections().items())
    assert found.content_sha256 == wanted.content_sha256
    return wanted


@on_cpu
@pytest.mark.parametrize("name", WHOLE)
def test_same_tensors(monkeypatch, name):
    device = host_device.HostDevice()
    monkeypatch.setattr("xorpack.cuda.device.device", lambda number: device)
    wanted = check_whole(name)
    idle = name in ("all pruned", "empty") or wanted.network.family == "identity"
    assert set(device.launched) == set([] if idle else KERNELS)


@on_cpu
def test_many_rings_of_a_tensor(monkeypatch):
    """The rate is found on two of them, and the rest are encoded at it."""
    monkeypatch.setattr(layouts, "RING_CODE", 60)
    monkeypatch.setattr("xorpack.encoding.rings.rate.SMALL", 1)
    device = host_device.HostDevice()
    monkeypatch.setattr("xorpack.cuda.device.device", lambda number: device)
    tensor = bcq((64, 200), 0.5, 2)
    found, wanted = xorpack.encode(tensor, device="cuda:1"), xorpack.encode(tensor)
    assert found.layout.n_segments > 2
    assert same(found.code, wanted.code)
    assert device.launched[:4] == ["ring_equations", *KERNELS]
    assert device.launched[-3:] == KERNELS


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_same_codes_on_a_gpu(name):
    from xorpack.cuda.device import device

    args, options = CASES[name]
    check(device(), *args, **options)


@pytest.mark.gpu
@pytest.mark.parametrize("name", WHOLE)
def test_same_tensors_on_a_gpu(name):
    check_whole(name)


@pytest.mark.gpu
@pytest.mark.parametrize("large", [BORDER, FIXED], ids=["border", "fixed"])
def test_large_rings_on_a_gpu(large):
    from xorpack.cuda.device import device

    check(device(), TURNED, (2048, 2048), 0.1, 2, 0.1015, n_rings=3, large=large)


@pytest.mark.parametrize(
    ("tensor", "options", "message"),
    [
        (bcq(), {"device": "tpu"}, "device 'tpu' is not cpu, cuda or cuda:NUMBER"),
        (bcq(), {"payload": "packed"}, "device cuda finds the XOR code, and bits are packed"),
        (bcq(), {"prefer": "speed"}, "device cuda finds the XOR code, and bits are packed"),
        (
            bcq(),
            {"encoder": "viterbi", "network": XorNetwork.dense(n_in=2, n_out=8)},
            "device cuda eliminates, and encoder 'viterbi' is asked for",
        ),
        (
            bcq(),
            {"network": XorNetwork.quasi_cyclic(window=17)},
            "a GPU encodes networks whose window is 16 words at the most; that of this one is 17",
        ),
    ],
)
def test_what_no_device_encodes(monkeypatch, tensor, options, message):
    monkeypatch.setattr("xorpack.cuda.device.device", lambda number: host_device.HostDevice())
    with pytest.raises(ParameterError, match=message):
        xorpack.encode(tensor, **{"device": "cuda", **options})


def test_a_trellis_tensor_has_its_code(monkeypatch):
    monkeypatch.setattr("xorpack.cuda.device.device", lambda number: host_device.HostDevice())
    tensor = xorpack.quantize(np.ones((40, 4), np.float32), method="trellis", window=8)
    with pytest.raises(ParameterError, match="device cuda finds the XOR code, and a trellis tensor has its"):
        xorpack.encode(tensor, device="cuda")


def test_no_cupy_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="needs CuPy"):
        xorpack.encode(bcq(), device="cuda")
