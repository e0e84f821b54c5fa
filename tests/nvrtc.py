"""Compile the kernels with NVRTC from its pip wheel, without a GPU: ``python tests/nvrtc.py`` prints the table.

Registers, stack and spills are what ptxas reports for the machine code; anything else in the log is an error.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

from xorpack import XorNetwork
from xorpack.code import depths
from xorpack.code.layout import Layout
from xorpack.cuda.launches import Launch
from xorpack.cuda.sources import OPTIONS, Kernel, Macros, network_macros, trellis_macros
from xorpack.decoders.gpu import launches
from xorpack.decoders.gpu.products import coded_wide, trellis_tiles, trellis_wide, wide
from xorpack.decoders.gpu.products.binary import DIGITS, digit_macros, digits_step
from xorpack.decoders.gpu.products.coded_binary import coded_launch, coded_macros
from xorpack.decoders.gpu.products.product import PRECISIONS, finish_launch
from xorpack.decoders.gpu.products.tables import matvec_launch, table_fields
from xorpack.decoders.gpu.products.tensor_cores import matmul_plan
from xorpack.decoders.gpu.products.trellis_binary import plan
from xorpack.encoding.quantize.trellis_design import design
from xorpack.encoding.quantize.trellis_gpu import WORDS, SearchPlan
from xorpack.encoding.quantize.trellis_search import FINE_RATE
from xorpack.encoding.rings.elimination import LARGE_RING
from xorpack.encoding.rings.elimination_gpu import RingPlan

KEPT = Path(__file__).resolve().parents[1] / "build" / "nvrtc"
"""What was compiled, by the hash of text, options and version; `make clean` removes it."""

ARCHITECTURES = ("sm_80", "sm_89", "sm_90", "sm_100", "sm_120")
SHARED_LIMIT = {"sm_80": 163, "sm_89": 99, "sm_90": 227, "sm_100": 227, "sm_120": 99}
"""KiB of shared memory that a block can have (CUDA C++ programming guide, compute capabilities)."""

MULTIPROCESSOR = {
    "sm_80": (64, 32, 164),
    "sm_89": (48, 24, 100),
    "sm_90": (64, 32, 228),
    "sm_100": (64, 32, 228),
    "sm_120": (48, 24, 100),
}
"""Warps, blocks and KiB of shared memory that one has (the same guide)."""
REGISTERS = 65536
"""Of a multiprocessor."""
MULTIPROCESSORS = 132
LAYOUT = Layout(rows=49152, cols=12288, lanes=32, n_steps=10170, row_stride=30377)
PLANE = Layout(rows=16 * 49152, cols=32 * 28, lanes=28, n_steps=49152, row_stride=486035)
UNROLLED = ("default", "quasi-cyclic", "raw")
"""Kinds of networks whose window a warp keeps in registers."""
RATES = tuple(map(Fraction, ("1/2", "1", "3/2", "2", "3", "4")))
"""Of trellis tensors."""
_NOISE = re.compile(
    r"ptxas info\s*: (Compiling entry function|Function properties|Compile time|\d+ bytes gmem)|^\s*$"
)
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one kernel takes on one architecture."""

    kernel: str
    registers: int
    stack: int
    spilled: int
    code_bytes: int
    seconds: float


def network(kind: str) -> XorNetwork:
    """One of every way to decode."""
    return {
        "default": XorNetwork.turned(),
        "quasi-cyclic": XorNetwork.quasi_cyclic(),
        "many rows": XorNetwork.quasi_cyclic(n_rows=4096),
        "dense": XorNetwork.dense(n_in=8, n_out=80, n_s=1),
        "FleXOR": XorNetwork.sparse(n_in=12, n_out=20),
        "raw": XorNetwork.identity(),
    }[kind]


def kernels(kind: str, bits: int, arch: str) -> Iterator[tuple[Kernel, Launch]]:
    """Every kernel of a product of 16-bit scales, as a tensor with that network would launch it."""
    chosen, limit = network(kind), SHARED_LIMIT[arch] << 10
    macros = network_macros(chosen, unrolled=kind in UNROLLED) | {"PLANES": bits, "SKEW": 1}
    decode = launches.decode_launch(LAYOUT, LAYOUT.rows, bits, MULTIPROCESSORS, limit)
    yield Kernel.of("decode_words", macros), decode
    macros |= {"BITS": bits, "ZEROS": "0x0u", "ONES": "0x0u", "MASK": 1, "SCALE": 1}
    dense = macros | {"LOSSLESS": 0, "OWN": 1, "ELEMENT": 1}
    yield Kernel.of("decode_dense", dense), decode
    yield Kernel.of("correct_dense", dense), Launch.of_threads(1 << 20)
    fields = table_fields(limit)
    launch = matvec_launch(LAYOUT, 1, bits, MULTIPROCESSORS, fields)
    yield (
        Kernel.of("matvec", macros | {"FIELDS": fields, "WARPS": launch.block // 32, "GROUP_SHIFT": 2}),
        launch,
    )
    for x, n in ((1, 8), (1, 32), (2, 8), (0, 8)):
        found = matmul_plan(LAYOUT, bits, n, 1 if x else 3, MULTIPROCESSORS, limit)
        yield (
            Kernel.of(
                "matmul",
                macros | {"X": x, "TILES": found.tiles, "WARPS": found.launch.block // 32, "GROUP_SHIFT": 2},
            ),
            found.launch,
        )
    yield Kernel.of("finish", macros), finish_launch(LAYOUT, 8)
    if kind in UNROLLED:
        for precision, often in DIGITS:
            digits = digit_macros(precision, often=often)
            yield digits_step(LAYOUT.n_panels, 1, {"PANEL": 32, "RUN": 1, "COLUMNS": 1} | digits)
        for shift, n in ((5, 1), (2, 1), (2, 8)):
            for precision in PRECISIONS:
                yield coded_kernel(macros, shift, n, precision)
        if arch == "sm_90" and bits <= coded_wide.MAX_WINDOWS:
            for shift in (5, 2):
                yield coded_wide_kernel(macros, shift)


def coded_kernel(macros: Macros, shift: int, n: int, precision: str = PRECISIONS[0]) -> tuple[Kernel, Launch]:
    """The product of ``n`` columns by binary tensor cores, of groups of ``2^shift`` chunks; 5: row scales."""
    own = {**macros, **coded_macros(int(macros["PLANES"]), shift, n, precision)}
    return Kernel.of("coded_product", own), coded_launch(LAYOUT, own, MULTIPROCESSORS)


def coded_wide_kernel(macros: Macros, shift: int, x_type: int = 1) -> tuple[Kernel, Launch]:
    """The product of 256 columns, of groups of ``2^shift`` chunks; 5: row scales. For compute capability 9.0."""
    groups = 1 if shift == 5 else LAYOUT.chunks >> shift
    special, shared_bytes = coded_wide.specialised(int(macros["PLANES"]), groups)
    launch = Launch(grid=(384, 1, 1), block=wide.THREADS, shared_bytes=shared_bytes)
    return Kernel.of("coded_wide", {**macros, "X": x_type, **special}), launch


def mask_kernels(n_filters: int) -> Iterator[tuple[Kernel, Launch]]:
    """Kernels of masks that stay coded: a cascade of that many filters, blocks, a product; corrections of any."""
    limits = MULTIPROCESSORS, 99 << 10
    for name, n_planes in (("cascade_candidates", n_filters), ("cascade_last", 1)):
        macros = launches.coded_macros(LAYOUT, network("default"), 1024, n_planes)
        yield Kernel.of(name, macros), launches.decode_launch(LAYOUT, LAYOUT.rows, n_planes, *limits)
    yield Kernel.of("flip", {}), Launch.of_threads(1 << 20)
    yield Kernel.of("block_tables", {"SKEW": 1}), Launch.of_warps(256)
    macros = launches.coded_macros(PLANE, depths.NETWORK, 1024, 1) | {"MASK": 0}
    yield Kernel.of("decode_words", macros), launches.decode_launch(PLANE, PLANE.rows, 1, *limits)
    for name in ("block_join", "block_move"):
        yield Kernel.of(name, {"SKEW": 1}), Launch.of_warps(LAYOUT.rows)
    yield Kernel.of("bmf_product", {"SKEW": 1}), Launch.of_threads(LAYOUT.rows * LAYOUT.chunks)


def lossless_kernels(n_bytes: int) -> Iterator[tuple[Kernel, Launch]]:
    """Kernels of a tensor of elements of that many bytes."""
    bits = 8 * n_bytes
    macros = launches.coded_macros(LAYOUT, network("default"), 1024, bits)
    macros |= {"BITS": bits, "ZEROS": "0x0u", "ONES": "0x0u", "MASK": 1, "LOSSLESS": n_bytes}
    launch = launches.decode_launch(LAYOUT, LAYOUT.rows, bits, MULTIPROCESSORS, 99 << 10)
    yield Kernel.of("decode_dense", macros), launch
    yield Kernel.of("correct_dense", macros), Launch.of_threads(1 << 20)
    field = {"SKEW": 1, "MASK": 1, "LOSSLESS": n_bytes}
    yield Kernel.of("decode_field", field), Launch.of_warps(LAYOUT.rows * LAYOUT.n_panels)


def trellis_kernels(rate: Fraction, arch: str) -> Iterator[tuple[Kernel, Launch]]:
    """The kernels of a trellis tensor of that rate, with row scales: decoding, products of 1, 2 and 8 columns."""
    network = design(rate).network
    rows, cols, chunks = LAYOUT.rows, LAYOUT.cols, LAYOUT.chunks
    macros = trellis_macros(network) | {"SCALE": 1, "MASK": 0, "SKEW": 1}
    types = {"OWN": 1, "ELEMENT": 1}
    yield Kernel.of("trellis_decode", macros | types), Launch.of_warps(rows // 16 * LAYOUT.n_panels)
    yield Kernel.of("trellis_outliers", macros | types), Launch.of_threads(1 << 20)
    yield Kernel.of("trellis_finish", macros), finish_launch(LAYOUT, 1)
    products, _ = DIGITS[PRECISIONS[0], False]
    for n in (1, 2, 4):
        chosen = plan(network, cols, 0, n)
        own = macros | chosen.macros(chunks)
        warps = 4 * chosen.chunks
        if n == 1:
            yield digits_step(24, n, {"PANEL": warps, "RUN": chosen.chunks, "COLUMNS": chosen.columns})
        yield Kernel.of("trellis_product", own), chosen.launch(rows, cols, MULTIPROCESSORS, products)[1]


def tiles_kernels(rate: Fraction, n: int) -> Iterator[tuple[Kernel, Launch]]:
    """The kernels that multiply a trellis tensor of that rate by ``n`` columns."""
    network = design(rate).network
    tiles = trellis_tiles.plan(LAYOUT.rows, LAYOUT.cols, n, MULTIPROCESSORS).tiles
    macros = trellis_macros(network) | {"SCALE": 1, "MASK": 0, "SKEW": 1, "X": 1, "TILES": tiles}
    macros["WARPS"] = trellis_tiles.WARPS
    yield Kernel.of("trellis_fragments", macros), Launch.of_threads(1 << 20)
    launch = Launch(grid=(384, 1, 1), block=32 * trellis_tiles.WARPS, shared_bytes=128 << network.n_planes)
    yield Kernel.of("trellis_matmul", macros), launch


def wide_kernels(
    rate: Fraction, x_type: int = 1, *, outliers: bool = False
) -> Iterator[tuple[Kernel, Launch]]:
    """The kernels that multiply a trellis tensor of that rate by 256 columns, for compute capability 9.0."""
    special, shared_bytes = trellis_wide.specialised(design(rate).network, outliers=outliers)
    yield Kernel.of("wide_activations", {"X": x_type}), Launch.of_threads(1 << 20)
    macros = trellis_macros(design(rate).network) | {"SCALE": 1, "MASK": 0, "SKEW": 1, "X": x_type} | special
    launch = Launch(grid=(384, 1, 1), block=wide.THREADS, shared_bytes=shared_bytes)
    yield Kernel.of("trellis_wide", macros), launch


def search_kernels(rate: Fraction, arch: str, window: int | None = None) -> Iterator[tuple[Kernel, Launch]]:
    """The kernels that search the columns of a trellis tensor of that rate."""
    found = SearchPlan.of(design(rate, window).network, SHARED_LIMIT[arch] << 10, fine=rate >= FINE_RATE)
    yield found.kernel, Launch(grid=(1, 1, 1), block=found.threads, shared_bytes=found.shared_bytes)
    yield WORDS, Launch.of_warps(1 << 20)


def ring_kernels(n_planes: int, m: int, window: int = 12) -> Iterator[tuple[Kernel, Launch]]:
    """The kernels that encode rings of ``m`` stored words, on any architecture."""
    yield from RingPlan.of(XorNetwork.quasi_cyclic(window=window), n_planes, m).steps(MULTIPROCESSORS)


def compile_kernel(kernel: Kernel, arch: str) -> Resources:
    """Compile for one architecture, as CuPy would; a warning is an error."""
    return _compile(kernel, arch)[0]


def cubin(kernel: Kernel, arch: str) -> bytes:
    """The file of machine code."""
    return _compile(kernel, arch)[1]


def _compile(kernel: Kernel, arch: str) -> tuple[Resources, bytes]:
    text, arch = kernel.source().encode(), kernel.architecture or arch
    options = [f"--gpu-architecture={arch}".encode(), b"-ftz=true", b"--ptxas-options=-v"]
    options += [option.encode() for option in OPTIONS]
    log, code, seconds = _kept(text, options)
    if not code:
        raise AssertionError(f"{kernel.name} for {arch}:\n{log}")
    return _read_log(kernel.name, arch, log.splitlines(), len(code), seconds), code


def _kept(text: bytes, options: list[bytes]) -> tuple[str, bytes, float]:
    """What NVRTC says, the machine code (none of an error), and seconds; of a text that was seen before, from a file.

    Tests and the table that CI prints compile the same texts, in several processes.
    """
    from cuda.bindings import nvrtc

    version = repr(nvrtc.nvrtcVersion()).encode()
    path = KEPT / hashlib.sha256(b"\0".join([version, *options, text])).hexdigest()
    if path.exists():
        head, _, code = path.read_bytes().partition(b"\n")
        log, seconds = json.loads(head)
        return log, code, seconds
    began = time.perf_counter()
    log, code = _run(text, options)
    seconds = time.perf_counter() - began
    KEPT.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(f".{os.getpid()}")
    written.write_bytes(json.dumps([log, seconds]).encode() + b"\n" + code)
    written.replace(path)
    return log, code, seconds


def _run(text: bytes, options: list[bytes]) -> tuple[str, bytes]:
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(text, b"kernel.cu", 0, [], [])
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytes(size)
    nvrtc.nvrtcGetProgramLog(program, log)
    code = b""
    if result == nvrtc.nvrtcResult.NVRTC_SUCCESS:
        code = bytes(nvrtc.nvrtcGetCUBINSize(program)[1])
        nvrtc.nvrtcGetCUBIN(program, code)
    nvrtc.nvrtcDestroyProgram(program)
    return log.decode().rstrip("\0"), code


def _read_log(name: str, arch: str, lines: list[str], code_bytes: int, seconds: float) -> Resources:
    entry, found, rest = "", {}, []
    for line in lines:
        if started := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            entry = started[1]
            assert started[2] == arch, line
        elif counts := _STACK.search(line):
            found[entry] = [int(counts[1]), int(counts[2]) + int(counts[3])]
        elif used := _USED.search(line):
            found[entry].append(int(used[1]))
        elif not _NOISE.search(line):
            rest.append(line)
    assert not rest, f"{name} for {arch}: " + "\n".join(rest)
    stack, spilled, registers = found[name]
    return Resources(
        kernel=name, registers=registers, stack=stack, spilled=spilled, code_bytes=code_bytes, seconds=seconds
    )


def occupancy(registers: int, launch: Launch, arch: str) -> int:
    """Warps on a multiprocessor, by the rules of CUDA's ``cuda_occupancy.h``; 0: a block cannot run.

    Registers are given to a warp in units of 256, from those of one of four partitions; of a block that is let in,
    warps count in fours. Shared memory is given in units of 128 bytes, 1 KiB more than a block asks for.
    """
    warps, (most_warps, most_blocks, shared) = launch.block // 32, MULTIPROCESSOR[arch]
    per_warp = -(-registers * 32 // 256) * 256
    if per_warp * -(-warps // 4) * 4 > REGISTERS:
        return 0
    by_registers = REGISTERS // 4 // per_warp * 4 // warps
    by_shared = (shared << 10) // (-(-(launch.shared_bytes + 1024) // 128) * 128)
    return warps * min(by_registers, by_shared, most_warps // warps, most_blocks)


COLUMNS = (
    "kernel",
    "network",
    "planes",
    "registers",
    "stack",
    "spilled",
    "shared",
    "warps",
    "cubin",
    "seconds",
)


def rows(arch: str) -> Iterator[tuple[str, ...]]:
    """The table of one architecture, in the order of COLUMNS."""
    groups = [("default", bits, kernels("default", bits, arch)) for bits in (1, 2, 3, 4)]
    groups += [(kind, 2, kernels(kind, 2, arch)) for kind in ("quasi-cyclic", "many rows", "raw")]
    groups.append(("masks, r = 3", 3, mask_kernels(3)))
    for rate in RATES:
        bits = design(rate).network.n_planes
        tiles = tiles_kernels(rate, 64)
        many = wide_kernels(rate) if arch == "sm_90" and bits <= trellis_tiles.MAX_PLANES else ()
        members = chain(trellis_kernels(rate, arch), tiles, many, search_kernels(rate, arch))
        groups.append((f"trellis, R {rate}", bits, members))
    for bits, m, of in ((2, LARGE_RING, "fixed"), (2, LARGE_RING - 1, "border"), (16, LARGE_RING, "fixed")):
        groups.append((f"rings, {of}", bits, ring_kernels(bits, m)))
    groups += [("lossless", 8 * n, lossless_kernels(n)) for n in (1, 4)]
    for kind, bits, members in groups:
        for kernel, launch in members:
            used = compile_kernel(kernel, arch)
            macros = dict(kernel.macros)
            name = kernel.name
            if name == "matmul":
                name += f" {('F32', 'F16', 'BF16')[int(macros['X'])]} x {8 * int(macros['TILES'])}"
            if name == "digits":
                name += f", {macros.get('PRODUCTS', 3)} x {macros.get('COPIES', 1)}"
            if name == "coded_wide":
                name += ", row" if macros["ROW_SCALES"] else ", groups of 128"
            if name == "coded_product":
                scales = "row" if macros["GROUP_SHIFT"] == 5 else "groups of 128"
                name += f", {scales}, {'1' if macros['ONE'] else 'up to 8'} columns"
                kinds = {digits: precision for (precision, _), digits in DIGITS.items()}
                name += ", fast" if kinds[macros["PRODUCTS"], macros["COPIES"]] == "fast" else ""
            counts = (used.registers, used.stack, used.spilled, launch.shared_bytes)
            warps = occupancy(used.registers, launch, arch)
            yield name, kind, str(bits), *map(str, (*counts, warps, used.code_bytes)), f"{used.seconds:.1f}"


def main(arguments: list[str]) -> None:
    """Print the tables of the given architectures, default all, as Markdown."""
    print("# Kernels compiled by NVRTC\n")
    print(
        "Written by `make kernels`. Registers a thread; stack and spilled bytes a thread; shared memory of a block;"
    )
    print(
        "warps of a multiprocessor, as registers and shared memory allow; bytes of machine code of the file; seconds."
    )
    for arch in arguments or ARCHITECTURES:
        print(f"\n## {arch}\n\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
        for row in rows(arch):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
