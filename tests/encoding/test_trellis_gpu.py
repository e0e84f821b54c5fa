"""The search of trellis columns on a GPU: its own text run on the CPU, or on a GPU, gives the bits of the CPU's."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import host_device
import numpy as np
import pytest
from samples import same

import xorpack
from xorpack.code.trellis import TrellisNetwork
from xorpack.code.words import n_chunks, pack
from xorpack.encoding.quantize import trellis, trellis_gpu, trellis_kernels
from xorpack.encoding.quantize.trellis_design import design
from xorpack.encoding.quantize.trellis_search import Search
from xorpack.errors import DeviceError, ParameterError

on_cpu = pytest.mark.skipif(
    host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU"
)
KERNELS = ["trellis_search", "trellis_words"]


def search_of(rate, window, rows, cols, *, fine=False, weighted=False, kept=0.9, seed=0):
    """A search with targets far outside, with columns that do not matter."""
    found, rng = design(Fraction(rate), window), np.random.default_rng([seed, rows, cols])
    x = rng.standard_normal((rows, cols)) * rng.choice([0.1, 1, 30], (rows, cols), p=[0.1, 0.85, 0.05])
    care = rng.random((rows, cols)) < kept
    care[:, cols // 2] = False
    importance = rng.random((rows, cols)) ** 8 if weighted else np.ones((1, cols))
    return Search(
        weight=x.astype(np.float32),
        network=found.network,
        a=np.array(found.a),
        scales=np.ones((rows, 1)),
        gains=np.ones(cols),
        group=cols,
        care=pack(care),
        importance=importance.astype(np.float32),
        fine=fine,
    )


def codes(search, device, chunks=None):
    """What the CPU and the device find."""
    found = []
    for where in (None, device):
        code = np.full((search.network.n_stored(search.rows), n_chunks(search.cols)), 0xA5A5A5A5, np.uint32)
        search.run(code, range(code.shape[1]) if chunks is None else chunks, 2, where)
        found.append(code)
    return found


CASES = {
    "R 2": (("2", 8, 70, 40), {}),
    "R 2, errors weighted": (("2", 8, 70, 40), {"weighted": True}),
    "R 2, most pruned": (("2", 8, 70, 40), {"kept": 0.2}),
    "R 2, nearly all pruned": (("2", 8, 70, 32), {"kept": 0.01}),
    "R 3/2": (("3/2", 8, 91, 33), {}),
    "R 3/2, fine, weighted": (("3/2", 8, 91, 33), {"weighted": True, "fine": True}),
    "R 1/2": (("1/2", 8, 201, 5), {}),
    "R 1/3, weighted": (("1/3", 8, 200, 5), {"weighted": True}),
    "R 3, fine": (("3", 9, 60, 20), {"fine": True}),
    "R 4, fine, weighted": (("4", 10, 40, 5), {"fine": True, "weighted": True}),
    "R 6": (("6", 12, 40, 3), {"fine": True}),
    "as long as an edge": (("2", 8, 16, 33), {}),
    "a default window": (("2", 12, 30, 3), {}),
}


@on_cpu
@pytest.mark.parametrize("name", CASES)
def test_same_bits(name):
    args, options = CASES[name]
    device = host_device.HostDevice()
    on_cpu, on_device = codes(search_of(*args, **options), device)
    assert device.launched == KERNELS
    assert device.apart == 0
    assert same(on_device, on_cpu)


@on_cpu
def test_searches_of_several_threads():
    """Each has its own memory, and its bits; kernels run one after another here."""
    names = list(CASES)[:6]
    searches = [search_of(*CASES[name][0], **CASES[name][1]) for name in names]
    device = host_device.HostDevice()
    with ThreadPoolExecutor(len(names)) as pool:
        for on_cpu, on_device in pool.map(lambda search: codes(search, device), searches):
            assert same(on_device, on_cpu)
    assert sorted(device.launched) == sorted(len(names) * KERNELS)
    assert device.apart == 0


@on_cpu
@pytest.mark.parametrize(
    "options",
    [{"turns": "falling"}, {"turns": "a warp ahead"}, {"n_multiprocessors": 1}, {"shared_limit": 4500}],
    ids=str,
)
def test_same_bits_whatever_the_launch(options):
    """Also where costs do not lie in shared memory; with two warps a block."""
    search, device = search_of("2", 10, 50, 40), host_device.HostDevice(**options)
    plan = trellis_gpu.SearchPlan.of(search.network, device.shared_limit, fine=False)
    assert (plan.threads, plan.cost_bytes > 0) == (64, "shared_limit" in options)
    on_cpu, on_device = codes(search, device)
    assert device.launched == KERNELS
    assert same(on_device, on_cpu)


@on_cpu
def test_a_window_whose_survivors_are_not_staged():
    search, device = search_of("1", 17, 70, 1), host_device.HostDevice()
    assert (
        trellis_gpu.SearchPlan.of(search.network, device.shared_limit, fine=False).stride > trellis_gpu.STAGED
    )
    on_cpu, on_device = codes(search_of("1", 17, 70, 2, kept=1.0), device)
    assert device.launched == KERNELS
    assert same(on_device, on_cpu)


@on_cpu
@pytest.mark.parametrize("weighted", [False, True])
def test_same_survivors(monkeypatch, weighted):
    """Also those of windows that no path in the end goes through, whose costs stop at the largest number."""
    network, rng = TrellisNetwork(n_in=2, n_out=1, window=8, taps=((1, 2),)), np.random.default_rng(1)
    search = Search(
        weight=(9 * rng.choice([-1, 1], (70, 1))).astype(np.float32),
        network=network,
        a=np.array([2.0, 1.0]),
        scales=np.ones((70, 1)),
        gains=np.ones(1),
        group=1,
        care=np.ones((70, 1), np.uint32),
        importance=(rng.random((70, 1)) if weighted else np.ones((1, 1))).astype(np.float32),
        fine=False,
    )
    made: list[np.ndarray] = []
    device = host_device.HostDevice()
    empty = device.empty
    monkeypatch.setattr(device, "empty", lambda *args: made.append(empty(*args)) or made[-1])
    code = np.zeros((search.network.n_stored(70), 1), np.uint32)
    search.run(code, [0], 1, device)
    x, weights, is_weighted = search.columns(0)
    assert is_weighted == weighted
    n, stride = 70, 4
    survivors, costs = np.zeros(search.capacity * stride, np.uint32), np.zeros((2, 256), np.int16)
    state = sum(int(bit & 1) << k for k, bit in enumerate(code[-6:, 0]))
    trellis_kernels.run(
        x[0], weights[0], weighted, False, search.firsts, search.new_bits, search.counts, search.tables, search.levels,
        8, 0, n, search.edge, search.capacity, state, costs, survivors, stride, np.zeros(1, np.int64),
        np.zeros(1, np.int16), np.zeros(1, np.int16), np.zeros(n, np.int64),
    )  # fmt: skip
    assert weighted or costs.max() == 32767
    assert same(made[2][: n * stride], survivors[: n * stride])


@on_cpu
def test_batches_and_samples(monkeypatch):
    """Other chunks than those that are asked for stay as they are."""
    monkeypatch.setattr(trellis_gpu, "BATCH_WEIGHTS", 64 * 70)
    monkeypatch.setattr(trellis_gpu, "SURVIVOR_BYTES", 10_000)
    device = host_device.HostDevice()
    on_cpu, on_device = codes(search_of("2", 8, 70, 230), device, [0, 2, 3, 5, 7])
    assert device.launched == 3 * KERNELS
    assert same(on_device, on_cpu)
    assert (on_device[:, [1, 4, 6]] == 0xA5A5A5A5).all()


@pytest.mark.parametrize("args", [("2", 8, 15, 33), ("2", 12, 6, 3), ("1/2", 8, 20, 3)])
def test_short_columns_are_searched_on_the_cpu(args):
    device = host_device.HostDevice()
    on_cpu, on_device = codes(search_of(*args), device)
    assert device.launched == []
    assert same(on_device, on_cpu)


def test_long_columns_are_searched_on_the_cpu():
    search, device = search_of("2", 8, 500, 2), host_device.HostDevice()
    search.capacity = 5 * search.edge + 1
    assert search.capacity < 500
    on_cpu, on_device = codes(search, device)
    assert device.launched == []
    assert same(on_device, on_cpu)


def test_blocks_are_no_more_than_run_at_once():
    device = host_device.HostDevice(n_multiprocessors=132)
    plan = trellis_gpu.SearchPlan.of(design(Fraction(2)).network, device.shared_limit, fine=False)
    assert plan.threads == 256
    assert plan.launch(10_000, 1 << 20, device).grid == (4 * 132, 1, 1)
    assert plan.launch(100, 1 << 20, device).grid == (100, 1, 1)
    assert plan.launch(10_000, 1 << 25, device).grid == (128, 1, 1)


def quantized(device, **options):
    rng = np.random.default_rng(8)
    weight = rng.standard_t(5, (130, 70)).astype(np.float32)
    return xorpack.quantize(weight, method="trellis", window=9, device=device, **options)


OPTIONS = [
    {"rate": 2},
    {"rate": 3, "group_size": 32, "column_gains": True, "jobs": 2},
    {"rate": 2, "sparsity": 0.5, "importance": np.arange(70), "balance": 0.5},
]


@on_cpu
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "fine", "pruned"])
def test_same_tensor(monkeypatch, options):
    device = host_device.HostDevice()
    monkeypatch.setattr("xorpack.cuda.device.device", lambda number: device)
    check_same(options)
    assert device.launched == (trellis.SAMPLE_TURNS + 1) * KERNELS


@pytest.mark.gpu
@pytest.mark.parametrize("options", OPTIONS, ids=["plain", "fine", "pruned"])
def test_same_tensor_on_a_gpu(options):
    check_same(options)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_same_bits_on_a_gpu(name):
    from xorpack.cuda.device import device

    args, options = CASES[name]
    on_cpu, on_device = codes(search_of(*args, **options), device())
    assert same(on_device, on_cpu)


@pytest.mark.gpu
@pytest.mark.parametrize(("rate", "window"), [("2", None), ("1/2", 16), ("1", 18)])
def test_many_long_columns_on_a_gpu(rate, window):
    from xorpack.cuda.device import device

    on_cpu, on_device = codes(search_of(rate, window, 1000, 64 if window else 2000), device())
    assert same(on_device, on_cpu)


def check_same(options):
    on_device, on_cpu = quantized("cuda", **options), quantized("cpu", **options)
    assert same(on_device.code, on_cpu.code)
    assert same(on_device.a, on_cpu.a)
    assert same(on_device.scales, on_cpu.scales)
    assert xorpack.encode(on_device).content_sha256 == xorpack.encode(on_cpu).content_sha256


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "CUDA", 0])
def test_a_device_has_a_name(name):
    with pytest.raises(ParameterError, match=r"device .* is not cpu, cuda or cuda:NUMBER"):
        quantized(name, rate=2)


def test_no_cupy_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceError, match="needs CuPy"):
        quantized("cuda", rate=2)


def test_binary_codes_have_no_search():
    with pytest.raises(ParameterError, match="device is not of method alternating"):
        xorpack.quantize(np.ones((4, 4), np.float32), device="cuda")  # type: ignore[call-overload]
