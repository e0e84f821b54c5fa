"""Products of 256 columns, the kernels' own text run on the CPU: what holds for all kinds of tensors, and hazards."""

from __future__ import annotations

import functools
from dataclasses import replace
from types import SimpleNamespace

import host_device
import numpy as np
import pytest
from gpu_cases import BCQ, TRELLIS, check_product, trellis
from samples import bcq, same

import xorpack
from xorpack.cuda import sources
from xorpack.cuda.machine_code import machine_code
from xorpack.cuda.sources import OPTIONS, Kernel
from xorpack.decoders.gpu.products.product import finish_launch
from xorpack.decoders.gpu.products.wide import START_QUADS, part_quads
from xorpack.errors import ParameterError
from xorpack.tensors import DTYPES

pytestmark = pytest.mark.skipif(
    host_device.COMPILER is None, reason="no C++ compiler: kernels are not run on the CPU"
)


CORRECTED = "binary, corrections"


@functools.cache
def encoded_case(name):
    if name == CORRECTED:
        return corrected()
    if name == "outliers, many":  # up to six in a place
        return trellis((140, 2200), (1, 1), 4, outliers=6000)
    return (TRELLIS if name in TRELLIS else BCQ)[name]()


def corrected():
    """Corrections that tiles are mended by: of rows and columns of all tiles' quarters, and with row scales too."""
    tensor = bcq((70, 2304), 0.7, 2, group_size=128, dtype="F16")
    encoded = xorpack.encode(tensor, lanes=32, rate=0.2, mask_codec="bitmap")
    assert encoded.n_corrections > 500
    return encoded


def activations(n, cols, dtype="F16", seed=0):
    return np.random.default_rng([seed, n, cols]).standard_normal((n, cols)).astype(DTYPES[dtype])


@pytest.mark.parametrize("n", [1, 255, 256, 257])
@pytest.mark.parametrize("name", ["trellis, odd", CORRECTED])
def test_any_number_of_columns(name, n):
    encoded = encoded_case(name)
    x = activations(n + 2, encoded.cols + 9)[2:, : encoded.cols]
    frame = np.full((n, encoded.rows + 5), 7, np.float32)
    out = frame[:, : encoded.rows]
    tensor = host_device.load(encoded)
    tensor.matmul(x, out=out, algorithm="wide")
    check_product(out, encoded, x, "F32", rounded="F16")
    assert (frame[:, encoded.rows :] == 7).all()
    before, tensor._device.allocations = out.copy(), 0
    tensor._device.poison()
    tensor.matmul(x, out=out, algorithm="wide")
    assert same(out.copy(), before)
    assert tensor._device.allocations == 0


@pytest.mark.parametrize("name", ["trellis, odd", "trellis, 4 bits", "unrolled, half", "raw, unrolled"])
def test_bfloat16(name):
    encoded = encoded_case(name)
    x = activations(257, encoded.cols, "BF16")
    y = host_device.load(encoded).matmul(x, algorithm="wide")
    check_product(y, encoded, x, "BF16", rounded="BF16")


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", ["trellis", "trellis, one row", "trellis, one column"])
def test_one_part_is_finished_at_once(name, dtype):
    """The same bits as by partial sums and another kernel, wherever the output lies."""
    encoded = encoded_case(name)
    x = activations(7, encoded.cols)
    tensor = host_device.load(encoded, n_multiprocessors=1)
    assert [kernel.name for kernel, _ in tensor.kernels(7, algorithm="wide")] == [
        "wide_activations",
        "trellis_wide",
    ]
    other = host_device.load(encoded, n_multiprocessors=1)
    product = other._planned("wide", "float32", 7, "F16")
    product.finished = False
    product.workspace["partial"] = 4 * 7 * encoded.rows
    product._finish = (product.resident.finish_kernel(), finish_launch(product.resident.layout, 7))
    wanted = np.empty((7, encoded.rows), DTYPES[dtype])
    other.matmul(x, out=wanted, algorithm="wide")
    check_product(wanted, encoded, x, dtype, rounded="F16")
    for width, begin in (
        (encoded.rows, 0),
        (encoded.rows + 1, 0),
        (encoded.rows + 5, 1),
        (encoded.rows + 2, 2),
    ):
        frame = np.full((7, width), 7, DTYPES[dtype])
        out = frame[:, begin : begin + encoded.rows]
        tensor.matmul(x, out=out, algorithm="wide")
        assert same(out.copy(), wanted)
        assert (np.delete(frame, np.s_[begin : begin + encoded.rows], axis=1) == 7).all()


@pytest.mark.parametrize("name", ["trellis, row of panels", "outliers, many", "unrolled, groups of 512"])
def test_same_bits_whatever_the_turns(name):
    """Parts of a sum are as many as the device asks for: the sums differ by float32 rounding, never between turns."""
    encoded = encoded_case(name)
    x = activations(20, encoded.cols)
    parts = set()
    for n_multiprocessors in (1, 40):
        found = []
        for turns in ("rising", "falling", "a warp ahead"):
            tensor = host_device.load(encoded, turns=turns, n_multiprocessors=n_multiprocessors)
            found.append(tensor.matmul(x, algorithm="wide"))
        launches = {kernel.name: launch for kernel, launch in tensor.kernels(20, algorithm="wide")}
        parts.update(launch.grid[1] for name, launch in launches.items() if name.endswith("_wide"))
        assert same(found[0], found[1])
        assert same(found[0], found[2])
        check_product(found[0], encoded, x, "F16", rounded="F16")
    assert len(parts) == 2


@pytest.mark.parametrize("name", ["trellis, period", "outliers, many"])
def test_outliers_are_levels_of_their_own(name):
    encoded = encoded_case(name)
    assert encoded.elements.n_outliers * 1000 > encoded.n_weights
    tensor = host_device.load(encoded, n_multiprocessors=1)
    names = [kernel.name for kernel, _ in tensor.kernels(129)]
    assert names == ["wide_activations", "trellis_wide"]
    x = activations(3, encoded.cols)
    check_product(tensor.matmul(x, algorithm="wide"), encoded, x, "F16", rounded="F16")
    crowded = trellis((40, 300), (1, 1), 4, outliers=4000)
    tensor, x_crowded = host_device.load(crowded, n_multiprocessors=1), activations(3, 300)
    assert tensor.kernels(129)[0][0].name == "trellis_decode"
    check_product(tensor.matmul(x_crowded, algorithm="wide"), crowded, x_crowded, "F16", rounded="F16")
    for other in (1e-30, 0.0):  # beside such scales they are none
        scales = encoded.elements.scales.astype(np.float32)
        scales[int(encoded.trellis(None).positions[-1]) // encoded.cols] = other
        small = replace(encoded, elements=replace(encoded.elements, scales=scales))
        tensor = host_device.load(small, n_multiprocessors=1)
        assert [kernel.name for kernel, _ in tensor.kernels(3, algorithm="wide")][-1] == "trellis_finish"
        check_product(tensor.matmul(x, algorithm="wide"), small, x, "F16", rounded="F16")


@pytest.mark.parametrize("power", [-90, 12])
def test_tiny_and_large_weights(power):
    encoded = encoded_case("trellis, period")
    x, out = activations(9, encoded.cols), np.empty((2, 9, encoded.rows), np.float32)
    elements = replace(encoded.elements, outliers=np.zeros(0, np.uint8), n_outliers=0)
    a = (elements.a * np.float32(2.0**power)).astype(np.float32)
    for to, own in zip(out, (elements, replace(elements, a=a)), strict=True):
        host_device.load(replace(encoded, elements=own)).matmul(x, out=to, algorithm="wide")
    assert np.abs(out[0]).max() > 0
    assert same(out[0] * np.float32(2.0**power), out[1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["trellis, row of panels", "unrolled, four panels"])
def test_activations_that_are_not_finite(name, value):
    encoded = encoded_case(name)
    x = activations(3, encoded.cols)
    x[1, 77] = value
    y = host_device.load(encoded).matmul(x, algorithm="wide")
    assert not np.isfinite(y[1]).any()
    assert np.isfinite(y[[0, 2]]).all()


def test_what_is_chosen():
    tensor = host_device.load(encoded_case("trellis"))
    names = [kernel.name for kernel, _ in tensor.kernels(129)]
    assert names == ["wide_activations", "trellis_wide", "trellis_finish"]
    assert tensor.kernels(256, algorithm="decode")[0][0].name == "trellis_decode"
    for encoded, options, dtype in (
        ("trellis", {"warpgroups": False}, "F16"),
        ("trellis", {"shared_limit": 163 << 10}, "F16"),
        ("trellis", {}, "F32"),
        ("trellis, low rate", {}, "F16"),
        ("trellis, groups", {}, "F16"),
        ("trellis, row of panels", {}, "F16"),  # 300 outliers of 161280 weights, and gains
    ):
        other = host_device.load(encoded_case(encoded), **options)
        assert other.kernels(129, dtype)[0][0].name == "trellis_decode"


@pytest.mark.parametrize(
    ("name", "options", "dtype", "why"),
    [
        ("trellis", {"warpgroups": False}, "F16", "compute capability 9.0 has"),
        ("trellis", {"shared_limit": 163 << 10}, "F16", "shared memory are needed"),
        ("trellis", {}, "F32", "activations are float32"),
        ("trellis, low rate", {}, "F16", "repeat their taps after 4"),
        ("trellis, bitmap", {}, "F16", "some weights are pruned"),
        ("trellis, groups", {}, "F16", "scales change within a row"),
        ("unrolled", {"warpgroups": False}, "F16", "compute capability 9.0 has"),
        ("unrolled", {"shared_limit": 163 << 10}, "F16", "shared memory are needed"),
        ("unrolled", {}, "F32", "activations are float32"),
        ("unrolled, corrections", {}, "F16", "scales change within 128 columns"),
        ("unrolled, 4 planes", {}, "F16", "leave no registers"),
        ("unrolled, 22 chunks", {}, "F16", "no multiple of 4"),
    ],
)
def test_what_it_does_not_take_says_why(name, options, dtype, why):
    tensor = host_device.load(encoded_case(name), **options)
    with pytest.raises(ParameterError, match=why):
        tensor.matmul(activations(9, tensor.cols, dtype), algorithm="wide")


@pytest.mark.parametrize(
    ("quads", "blocks", "n_multiprocessors", "rounds"),
    [(96, 384, 132, 3), (64, 224, 132, 2), (32, 112, 132, 1), (1, 1, 132, 1), (64, 40, 132, 1)],
)
def test_parts_fill_the_device(quads, blocks, n_multiprocessors, rounds):
    part = part_quads(quads, 1, blocks, n_multiprocessors)
    assert part_quads(quads, 8, blocks, n_multiprocessors) % 8 == 0
    parts = -(-quads // part)
    assert -(-blocks * parts // n_multiprocessors) == rounds
    time = rounds * (part + START_QUADS)
    for other in range(1, quads + 1):
        assert time <= -(-blocks * other // n_multiprocessors) * (-(-quads // other) + START_QUADS)


FULL = "xp_barrier_wait(stages.full + stages.at, stages.phase"
HAZARDS = {
    "operands overwritten while they are read": ("xp_products_wait<1>();", "xp_products_wait<2>();"),
    "no fence of registers": ("            xp_products_begin();\n", ""),
    "a stage overwritten while it is read": (
        "arrive(stages.empty + before)",
        "arrive(stages.empty + stages.at)",
    ),
    "a stage filled without room": ("if (stage >= XP_STAGES) xp_barrier_wait", "if (0) xp_barrier_wait"),
    "a stage read before it is full": (f"{FULL})", f"{FULL} ^ 1)"),
    "sums read too early": ("    xp_products_wait<0>();\n", ""),
    "steps of a descriptor exchanged": ("(4096 >> 4) << 16", "(128 >> 4) << 16"),
}


@pytest.mark.parametrize("hazard", HAZARDS)
def test_emulation_sees(hazard, monkeypatch):
    """What would be wrong on a GPU now and then is wrong on the CPU always."""
    right, wrong = HAZARDS[hazard]
    encoded = encoded_case("trellis, one row")
    x = activations(2, encoded.cols)
    text = sources._text

    def broken(file):
        return text(file).replace(right, wrong)

    assert broken("wide") != text("wide")
    monkeypatch.setattr(sources, "_text", broken)
    monkeypatch.setattr(host_device, "compiled", functools.cache(host_device.compiled.__wrapped__))
    with pytest.raises(AssertionError):
        check_product(host_device.load(encoded).matmul(x, algorithm="wide"), encoded, x, "F16", rounded="F16")


class TextError(Exception):
    """Of a compiler."""


def fake_cupy(*, broken=False):
    """CuPy as far as kernels are compiled past its modules."""
    calls = []

    def compile_program(program, options):
        calls.append((program, options))
        if broken:
            raise TextError

    nvrtc = SimpleNamespace(
        NVRTCError=TextError,
        getVersion=lambda: (12, 9),
        createProgram=lambda text, name, headers, names: (text, name),
        compileProgram=compile_program,
        getCUBIN=lambda program: b"code",
        getProgramLog=lambda program: "line 1: wrong",
        destroyProgram=lambda program: None,
    )
    compiler = SimpleNamespace(CompileException=RuntimeError)
    return SimpleNamespace(cuda=SimpleNamespace(nvrtc=nvrtc, compiler=compiler)), calls


def test_compiled_once_for_its_architecture(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    cupy, calls = fake_cupy()
    kernels = [Kernel.of("trellis_wide", {"X": x}) for x in (1, 2)]
    found = [machine_code(cupy, kernel) for kernel in (*kernels, *kernels)]
    assert found[:2] == found[2:]
    assert found[0] != found[1]
    assert found[0].parent == tmp_path / "cache"
    assert found[0].read_bytes() == b"code"
    assert sorted(found[0].parent.iterdir()) == sorted(found[:2])
    assert [options for _, options in calls] == 2 * [(*OPTIONS, "-ftz=true", "-arch=sm_90a")]
    assert calls[0][0] == (kernels[0].source(), "trellis_wide.cu")


def test_what_the_compiler_says_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    cupy, _ = fake_cupy(broken=True)
    with pytest.raises(RuntimeError, match="line 1: wrong"):
        machine_code(cupy, Kernel.of("trellis_wide", {}))
    assert not (tmp_path / "cache").exists()
