"""Every kernel compiles for every architecture without a warning, and keeps to its registers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import nvrtc
import pytest
import sass

from xorpack.code.trellis import TrellisNetwork
from xorpack.cuda.sources import FILES, Kernel, network_macros, trellis_macros
from xorpack.decoders.gpu.products.trellis_wide import specialised
from xorpack.decoders.gpu.products.wide import THREADS

pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC is not installed: kernels are not compiled")

SPILLED = {
    ("default", "matvec", "sm_80"): 12,
    ("default", "matvec", "sm_120"): 72,
    ("quasi-cyclic", "matvec", "sm_120"): 24,
    ("quasi-cyclic", "coded_product", "sm_80"): 76,
    ("default", "coded_product", "sm_89"): 32,
}
"""Bytes of spill loads and stores that are allowed, by the most that is spilled for an architecture. On sm_90 nothing
is. Loops of tables need nothing of it; those of ``coded_product`` have up to 10 of them in some 900 instructions."""
TRELLIS_SPILLED = {"sm_80": 72, "sm_89": 64}
"""Of trellis_product: numbers that are read once in a body of some 1000 instructions, for 12 warps instead of 8."""
TILES_SPILLED = 96
"""Of trellis_matmul of 64 columns, which has 255 registers there."""

GROUPS = {
    "default": lambda arch: nvrtc.kernels("default", 2, arch),
    "quasi-cyclic": lambda arch: nvrtc.kernels("quasi-cyclic", 2, arch),
    "table": lambda arch: nvrtc.kernels("many rows", 3, arch),
    "masks": lambda arch: nvrtc.mask_kernels(3),
    "lossless": lambda arch: nvrtc.lossless_kernels(4),
}


@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("group", GROUPS)
def test_compiles_without_a_warning(group, arch):
    for kernel, launch in GROUPS[group](arch):
        used = nvrtc.compile_kernel(kernel, arch)
        assert used.registers * launch.block <= 65536, used
        assert launch.shared_bytes <= nvrtc.SHARED_LIMIT[arch] << 10
        assert used.spilled <= SPILLED.get((group, kernel.name, arch), 0), used


@pytest.mark.skipif(sass.disassembler() is None, reason="nvdisasm is not installed: loops are not read")
@pytest.mark.parametrize("kind", ["default", "quasi-cyclic"])
def test_the_loop_of_tables_has_no_spill(kind):
    (kernel,) = (each for each, _ in nvrtc.kernels(kind, 2, "sm_120") if each.name == "matvec")
    found = sass.count(kernel, sass.CODED_STEPS, "sm_120")
    assert found.kinds["LDS"] >= 3 * 5 * sass.CODED_STEPS
    assert not {"LDL", "STL"} & set(found.kinds)


@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize("rate", [Fraction(1), Fraction(2)], ids=str)
def test_trellis_compiles_without_a_warning(rate, arch):
    for kernel, launch in nvrtc.trellis_kernels(rate, arch):
        used, blocks = nvrtc.compile_kernel(kernel, arch), dict(kernel.macros).get("BLOCKS", 1)
        assert used.registers * launch.block * blocks <= 65536, used
        allowed = TRELLIS_SPILLED.get(arch, 0) if kernel.name == "trellis_product" else 0
        assert used.spilled <= allowed, used


@pytest.mark.parametrize("rate", [Fraction(1, 2), Fraction(3, 2), Fraction(3), Fraction(4)], ids=str)
def test_no_trellis_spills_on_sm_90(rate):
    for kernel, _ in nvrtc.trellis_kernels(rate, "sm_90"):
        assert nvrtc.compile_kernel(kernel, "sm_90").spilled == 0, kernel


WINDOWS = [(2, 1, 6, 12), (5, 2, 7, 12), (3, 1, 8, 12), (2, 1, 6, 14), (3, 1, 8, 20), (1, 2, 2, 20)]


@pytest.mark.parametrize(("n_in", "n_out", "planes", "window"), WINDOWS)
def test_wide_products_of_any_window_compile_without_a_spill(n_in, n_out, planes, window):
    """Nor does the compiler put products one behind the other for want of registers, which would be a warning."""
    rng = np.random.default_rng(window)
    taps = rng.integers(0, 1 << window, (n_out, planes)) | 1 << (window - 1) | 1
    network = TrellisNetwork(n_in=n_in, n_out=n_out, window=window, taps=tuple(map(tuple, taps.tolist())))
    for x_type, outliers in ((1, False), (2, False), (1, planes < 8)):
        special, shared_bytes = specialised(network, outliers=outliers)
        assert shared_bytes <= nvrtc.SHARED_LIMIT["sm_90"] << 10
        kernel = Kernel.of("trellis_wide", trellis_macros(network) | {"X": x_type} | special)
        used = nvrtc.compile_kernel(kernel, "sm_90")
        assert used.spilled == 0, used
        assert used.registers * THREADS <= 65536, used


@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize(
    ("rate", "window"), [("1/2", None), ("1", 17), ("3/2", None), ("2", None), ("6", None)]
)
def test_search_compiles_without_a_spill(rate, window, arch):
    """As many blocks as the launch counts on have registers to run at once."""
    for kernel, launch in nvrtc.search_kernels(Fraction(rate), arch, window):
        used = nvrtc.compile_kernel(kernel, arch)
        assert used.spilled == 0, used
        assert used.registers * min(16 * launch.block, 1024) <= 65536, used
        assert launch.shared_bytes <= nvrtc.SHARED_LIMIT[arch] << 10


@pytest.mark.parametrize("arch", nvrtc.ARCHITECTURES)
@pytest.mark.parametrize(
    ("bits", "m", "window"), [(2, 32768, 12), (2, 1000, 12), (16, 32768, 16), (64, 1000, 16)]
)
def test_rings_compile_without_a_spill(bits, m, window, arch):
    for kernel, launch in nvrtc.ring_kernels(bits, m, window):
        used = nvrtc.compile_kernel(kernel, arch)
        assert used.spilled == 0, used
        assert used.registers * launch.block * 2 <= 65536, used
        assert launch.shared_bytes <= nvrtc.SHARED_LIMIT[arch] << 10


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_unrolled_window_stays_in_registers(bits):
    """An index that is not a constant after unrolling would put the window into local memory. Nothing is spilled."""
    for kernel, _ in nvrtc.kernels("default", bits, "sm_90"):
        used = nvrtc.compile_kernel(kernel, "sm_90")
        assert (used.stack, used.spilled) == (0, 0), used


def test_quasi_cyclic_networks_spill_nothing_on_sm_90():
    for kernel, _ in nvrtc.kernels("quasi-cyclic", 4, "sm_90"):
        assert nvrtc.compile_kernel(kernel, "sm_90").spilled == 0, kernel


@pytest.mark.parametrize("name", FILES)
def test_compiles_with_its_defaults(name):
    nvrtc.compile_kernel(Kernel.of(name, {}), "sm_90")


def test_first_call_compiles_within_its_goal():
    """A product of the default network and mask. Goal: 3 s; measured here at a fraction of it."""
    found = {each.name: each for each, _ in nvrtc.kernels("default", 2, "sm_90")}
    product = [found[name] for name in ("digits", "coded_product", "finish")]
    mask = [each for each, _ in nvrtc.mask_kernels(3) if not each.name.startswith(("cascade", "bmf"))]
    texts = {kernel.source(): kernel for kernel in (*product, *mask)}
    assert len(texts) == len(product) + len(mask) - 2  # those of the block codec are one text
    used = [nvrtc.compile_kernel(kernel, "sm_90") for kernel in texts.values()]
    assert sum(each.seconds for each in used) < 10  # a loaded machine


def test_a_broken_kernel_is_reported():
    macros = network_macros(nvrtc.network("default"), unrolled=True) | {"PLANES": "zwei"}
    with pytest.raises(AssertionError, match="errors detected in the compilation"):
        nvrtc.compile_kernel(Kernel.of("decode_words", macros), "sm_90")


def test_a_warning_is_an_error():
    with pytest.raises(AssertionError, match="never referenced"):
        nvrtc._read_log(
            "f", "sm_90", ['warning #177-D: variable "a" was declared but never referenced'], 0, 0.0
        )
