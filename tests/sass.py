"""Count instructions in the machine code, without a GPU: ``python tests/sass.py`` prints the table of sm_90.

A *step* is 1024 weights, 32 words of 32. Counted is the kernel's main loop, that of its products or lookups: its
instructions over the steps that one way through it makes. Loops within it, which move a window every few steps, stand
in a column of their own.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import nvrtc

from xorpack import XorNetwork
from xorpack.cuda.sources import Kernel, network_macros, trellis_macros
from xorpack.decoders.gpu.products.binary import digit_macros
from xorpack.decoders.gpu.products.product import PRECISIONS
from xorpack.decoders.gpu.products.trellis_binary import plan
from xorpack.encoding.quantize.trellis_design import design
from xorpack.encoding.rings.elimination import LARGE_RING

ARCH = "sm_90"
TRELLIS = {
    "trellis R 1/2, q 2": Fraction(1, 2),
    "trellis R 1, q 4": Fraction(1),
    "trellis R 3/2, q 5": Fraction(3, 2),
    "trellis R 2, q 6": Fraction(2),
    "trellis R 3, q 7": Fraction(3),
}
WIDE = ("trellis R 1, q 4", "trellis R 2, q 6")
"""Of those products of 256 columns."""
MARKERS = {
    "trellis_matmul": "HMMA",
    "trellis_wide": "HGMMA",
    "trellis_product": "BMMA",
    "coded_product": "BMMA",
}
"""What a kernel's main loop is known by; of others it is "LDS"."""
WINDOWS = (12, 16)
"""Of networks whose rings are eliminated."""
SEARCHES = (2, 3)
"""Rates of searches."""
CODED_STEPS = 16
"""Steps of the main loops of ``matvec`` and ``coded_product``: rows of a network that are unrolled."""
CODED = {
    "coded": XorNetwork.turned(),
    "coded, hold 4": XorNetwork.turned(hold=4),
    "quasi-cyclic": XorNetwork.quasi_cyclic(),
}
"""Networks of masked codes: of much that is pruned, of half, of files of versions 1 and 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Instructions of one way through the main loop, and what they are by the first word of their names."""

    instructions: int
    inner: int
    steps: int
    kinds: Mapping[str, int]

    @property
    def per_step(self) -> float:
        """Without inner loops."""
        return self.instructions / self.steps


@functools.cache
def disassembler() -> str | None:
    """Where nvdisasm is: that of the wheel ``nvidia-cuda-nvdisasm``, or one in the path; None: nowhere."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvdisasm") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [file for file in files if file.name == "nvdisasm"]
    return str(found[0].locate()) if found else shutil.which("nvdisasm")


def disassemble(cubin: bytes) -> str:
    """Machine code as text."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(cubin)
        command = [str(disassembler()), "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def count(kernel: Kernel, steps: int, arch: str = ARCH) -> Count:
    """The count of a kernel whose main loop makes so many steps."""
    text = disassemble(nvrtc.cubin(kernel, arch)).split(f".text.{kernel.name}:")[1].split("\n.text.")[0]
    if kernel.name == "coded_wide":
        return with_detour(text, "HGMMA", steps)
    return main_loop(text, MARKERS.get(kernel.name, "LDS"), steps)


def main_loop(text: str, marker: str, steps: int) -> Count:
    """The shortest loop in the machine code of one kernel that has as many instructions ``marker`` as any."""
    code, loops = loops_of(text)
    begin, end = _marked(code, loops, marker)
    inner = {n for first, last in loops if begin < first and last < end for n in range(first, last + 1)}
    names = [
        re.sub(r"^@!?U?P\w+\s+", "", code[n]).split()[0].split(".")[0]
        for n in range(begin, end + 1)
        if n not in inner
    ]
    return Count(instructions=len(names), inner=len(inner), steps=steps, kinds=Counter(names))


def with_detour(text: str, marker: str, steps: int) -> Count:
    """The main loop of a kernel that leaves it out for most of the time what a branch jumps over: 1 time of 8.

    Instructions are those of 8 ways through it; of the detour all are counted, those of its loops once.
    """
    code, loops, labels = jumps_of(text)
    begin, end = _marked(code, loops, marker)
    skipped = 0
    for n in range(begin, end):
        jump = re.search(r"\bBRA\b.*?(\.L_\w+)", code[n])
        target = labels.get(jump[1], 0) if jump else 0
        if target <= end and marker not in "".join(code[n:target]):
            skipped = max(skipped, target - n - 1)
    names = [re.sub(r"^@!?U?P\w+\s+", "", each).split()[0].split(".")[0] for each in code[begin : end + 1]]
    n_all = 8 * (len(names) - skipped) + skipped
    return Count(instructions=n_all, inner=skipped, steps=8 * steps, kinds=Counter(names))


def main_block(text: str, marker: str) -> list[str]:
    """The instructions of that loop, with loops in it."""
    code, loops = loops_of(text)
    begin, end = _marked(code, loops, marker)
    return code[begin : end + 1]


def loops_of(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """All instructions, and of every loop the first and the last one."""
    code, loops, _ = jumps_of(text)
    return code, loops


def jumps_of(text: str) -> tuple[list[str], list[tuple[int, int]], dict[str, int]]:
    """The same, and where labels are."""
    labels: dict[str, int] = {}
    code: list[str] = []
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = len(code)
        elif found := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            code.append(found[1])
    loops = []
    for end, text in enumerate(code):
        jump = re.search(r"\bBRA\b.*?(\.L_\w+)", text)
        begin = labels.get(jump[1], end + 1) if jump else end + 1
        # What stands behind an end of the kernel and jumps back is a detour, no loop.
        if begin <= end and not any(re.match(r"EXIT\b", each) for each in code[begin:end]):
            loops.append((begin, end))
    return code, loops, labels


def _marked(code: Sequence[str], loops: Sequence[tuple[int, int]], marker: str) -> tuple[int, int]:
    marked = [sum(marker in text for text in code[first : last + 1]) for first, last in loops]
    return min(
        (loop for loop, n in zip(loops, marked, strict=True) if n == max(marked)),
        key=lambda loop: loop[1] - loop[0],
    )


def in_flight(kernel: Kernel, arch: str = ARCH) -> tuple[int, list[str]]:
    """Asynchronous products in the main loop, and instructions that write a register while one may still use it.

    A product's operands are read, its sums written, until a wait for its group. The loop is walked twice: what it has
    in flight at its end is so at its beginning.
    """
    text = disassemble(nvrtc.cubin(kernel, arch)).split(f".text.{kernel.name}:")[1].split("\n.text.")[0]
    return overwritten(main_block(text, "HGMMA"))


def overwritten(loop: Sequence[str]) -> tuple[int, list[str]]:
    """See :func:`in_flight`; ``loop``: its instructions."""
    groups: list[set[int]] = [set()]
    products, wrong = 0, []
    for text in (*loop, *loop):
        text = re.sub(r"^@!?U?P\w+\s+", "", text)
        name = text.split()[0]
        if name.startswith("HGMMA"):
            numbers = [int(number) for number in re.findall(r"\bR(\d+)", text)]
            sums, operand = numbers[0], numbers[1]
            groups[-1] |= {*range(sums, sums + 128), *range(operand, operand + 4)}
            products += 1
            if "gsb0" in text:
                groups.append(set())
            continue
        if left := re.match(r"WARPGROUP\.DEPBAR\.LE gsb0, (?:0x)?(\w+)", text):
            keep = int(left[1], 16)
            groups = groups[max(0, len(groups) - 1 - keep) :]
            continue
        if written(text) & set().union(*groups):
            wrong.append(text)
    return products // 2, wrong


def written(text: str) -> set[int]:
    """Registers that an instruction writes: the first it names, and those behind it of one that writes several."""
    name, _, operands = text.partition(" ")
    if re.match(r"(ST|BRA|SYNCS|BAR|RED|NOP|WARPSYNC|BSSY|BSYNC|R2UR|EXIT|[IF]SETP|R2P|VOTEU)", name):
        return set()
    found = re.match(r"\s*(?:U?P\w+,\s*)*R(\d+)", operands)
    if found is None:
        return set()
    width = 4 if ".128" in name else 2 if ".64" in name or ".WIDE" in name else 1
    return set(range(int(found[1]), int(found[1]) + width))


def window_count(rate: int, arch: str = ARCH) -> float:
    """Instructions of the search for a state and step, at 2 or 3 bits: from a load of levels to the next."""
    kernel, _ = next(nvrtc.search_kernels(Fraction(rate), arch))
    text = disassemble(nvrtc.cubin(kernel, arch)).split(f".text.{kernel.name}:")[1].split("\n.text.")[0]
    code = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", text)
    loads = [n for n, line in enumerate(code) if f"LDG.E.{16 << rate} " in line]
    return min(after - before for before, after in pairwise(loads)) / (1 << rate)


def column_count(window: int, arch: str = ARCH) -> float:
    """Instructions of an elimination for a column of 32 equations, in large rings."""
    kernel, _ = list(nvrtc.ring_kernels(2, LARGE_RING, window))[1]
    text = disassemble(nvrtc.cubin(kernel, arch)).split(f".text.{kernel.name}:")[1].split("\n.text.")[0]
    block = straight(text, "LDS.128")
    return len(block) * (window // 4) / sum("LDS.128" in text for text in block)


def straight(text: str, marker: str) -> list[str]:
    """The instructions between two labels or jumps that have the most ``marker``."""
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        if found := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            blocks[-1].append(found[1])
        if re.match(r"\s*\.L_\w+:", line) or (found and re.search(r"\bBRA\b", found[1])):
            blocks.append([])
    return max(blocks, key=lambda block: sum(marker in text for text in block))


def trellis_kernel(rate: Fraction, n: int = 1, precision: str = PRECISIONS[0]) -> tuple[Kernel, int]:
    """The product of ``n`` columns with a matrix of many columns and row scales, and the steps of its loop."""
    network = design(rate).network
    chosen = plan(network, 12288, 0, n)
    macros = trellis_macros(network) | {"SCALE": 1, "MASK": 0, "SKEW": 1} | chosen.macros(384)
    macros |= digit_macros(precision, often=False)
    return Kernel.of("trellis_product", macros), chosen.body * chosen.chunks


def kernels() -> dict[str, tuple[Kernel, int]]:
    """What is counted, by name, with the steps of a main loop."""
    found = {name: trellis_kernel(rate) for name, rate in TRELLIS.items()}
    found["trellis R 2, q 6, 4 columns"] = trellis_kernel(Fraction(2), 4)
    found["trellis R 2, q 6, fast"] = trellis_kernel(Fraction(2), precision="fast")
    for n in (16, 64):
        found[f"trellis R 2, q 6, tiles of {n} columns"] = list(nvrtc.tiles_kernels(Fraction(2), n))[1][0], 4
    for name in WIDE:
        kernel = list(nvrtc.wide_kernels(TRELLIS[name]))[1][0]
        found[f"{name}, 256 columns"] = kernel, 2
        kernel = list(nvrtc.wide_kernels(TRELLIS[name], outliers=True))[1][0]
        found[f"{name}, outliers, 256 columns"] = kernel, 2
    for (what, network), bits in product(CODED.items(), (2, 3)):
        for name, shift, n, precision in (
            ("row scales", 5, 1, "float32"),
            ("groups of 128", 2, 1, "float32"),
            ("row scales, a column more", 5, 8, "float32"),
            ("row scales, fast", 5, 1, "fast"),
            ("groups of 128, fast", 2, 1, "fast"),
        ):
            if what != "coded" and (n > 1 or precision == "fast"):
                continue
            macros = network_macros(network, unrolled=True) | {"PLANES": bits, "SKEW": 1}
            macros |= {"BITS": bits, "ZEROS": "0x0u", "ONES": "0x0u", "MASK": 1, "SCALE": 1}
            kernel, _ = nvrtc.coded_kernel(macros, shift, n, precision)
            found[f"{what}, q {bits}, {name}"] = kernel, CODED_STEPS
            if n == 1 and precision == "float32":
                many, _ = nvrtc.coded_wide_kernel(macros, shift)
                found[f"{what}, q {bits}, {name}, 256 columns"] = many, 2
    for kind, bits in product(("default", "quasi-cyclic"), (2, 3)):
        matvec = next(each for each, _ in nvrtc.kernels(kind, bits, ARCH) if each.name == "matvec")
        found[f"matvec, {kind}, q {bits}, groups of 128"] = matvec, CODED_STEPS
    return found


def main() -> None:
    """Print the table as Markdown."""
    print("| kernel | instructions a step | of inner loops, in all | steps | the most frequent, a step |")
    print("|---|---|---|---|---|")
    for name, (kernel, steps) in kernels().items():
        found = count(kernel, steps)
        kinds = sorted(found.kinds.items(), key=lambda item: -item[1])[:8]
        listed = ", ".join(f"{kind} {n / steps:.1f}" for kind, n in kinds)
        print(f"| {name} | {found.per_step:.1f} | {found.inner} | {steps} | {listed} |", flush=True)
    print("\n| elimination | instructions a column of 32 equations |\n|---|---|")
    for window in WINDOWS:
        print(f"| window {window} | {column_count(window):.1f} |", flush=True)
    print("\n| search | instructions a state and step |\n|---|---|")
    for rate in SEARCHES:
        print(f"| trellis R {rate} | {window_count(rate):.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
