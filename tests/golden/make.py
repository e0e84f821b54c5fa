"""The one writer of the golden files, which fix the format; see FORMAT.md.

``python -m golden.make DIRECTORY``, in ``tests``, writes all of them with their digests, and never over a file
that exists. Files that a release has read stay as they are: new cases go into new files.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from golden.inputs import (
    bcq,
    bmf,
    crowded,
    few,
    few_signs,
    halves,
    hashed,
    odd_scales,
    plain,
    signs,
    skewed,
    small,
    trellis,
)
from numpy.typing import NDArray
from samples import with_digest_of_weights

import xorpack
from xorpack import BCQTensor, EncodedTensor, TrellisTensor, XorNetwork
from xorpack.code import layout, words
from xorpack.code import packed as code_packed
from xorpack.encoding import plan
from xorpack.encoding.masks import huffman
from xorpack.encoding.rings import tensor as rings
from xorpack.files import container
from xorpack.files.safetensors_file import StoredTensor
from xorpack.tensors import DTYPES, NEW_DTYPES

DIGESTS = "SHA256.json"

OLD_DTYPES = [dtype for dtype in DTYPES if dtype not in NEW_DTYPES]

Input = BCQTensor | TrellisTensor | NDArray[Any]


@dataclass
class Case:
    """One file: inputs, encoded tensors, carried ones; ``of_planes``: whether digests of ``bcq`` say that they are."""

    inputs: dict[str, Input] = field(default_factory=dict)
    encoded: dict[str, EncodedTensor] = field(default_factory=dict)
    carried: dict[str, StoredTensor] = field(default_factory=dict)
    order: list[str] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    of_planes: bool = False

    def add(self, name: str, tensor: Input, **how: Any) -> None:
        """Encode a tensor, without a field unless ``how`` says so: those are of version 2."""
        how.setdefault("field", "none")
        self.inputs[name] = tensor
        encoded = xorpack.encode(tensor, **how)
        self.encoded[name] = encoded if self.of_planes else with_digest_of_weights(encoded)

    def carry(self, salt: int, name: str, dtype: str, shape: tuple[int, ...], n_bytes: int) -> None:
        """Add a tensor that is carried."""
        data = hashed(n_bytes, salt).astype(np.uint8)
        self.carried[name] = StoredTensor(dtype, shape, data & np.uint8(1) if dtype == "BOOL" else data)

    def write(self, path: Path) -> None:
        """Write the file."""
        container.write(
            path,
            self.encoded,
            self.carried,
            order=self.order,
            metadata=self.metadata,
            settings=self.settings,
            version=self.version,
        )

    def contents(self) -> dict[str, bytes]:
        """Bytes that decoding must give."""
        found = {name: stored.data.tobytes() for name, stored in self.carried.items()}
        for name, tensor in self.inputs.items():
            found[name] = (tensor if isinstance(tensor, np.ndarray) else tensor.dequantize()).tobytes()
        return found


@contextmanager
def rings_of(stored_words: int) -> Iterator[None]:
    """Cut tensors into segments far smaller than they usually are."""
    usual = layout.RING_CODE
    layout.RING_CODE = stored_words
    try:
        yield
    finally:
        layout.RING_CODE = usual


@contextmanager
def words_of(*per_lane: int) -> Iterator[None]:
    """Code one set of planes after another in so many words per lane, where another search for the rate found them."""
    usual, wanted = rings.choose_m_lane, iter(per_lane)
    rings.choose_m_lane = lambda *_: (next(wanted), {})
    try:
        yield
    finally:
        rings.choose_m_lane = usual


@contextmanager
def no_turned_networks() -> Iterator[None]:
    """Encode as before there were any."""
    usual = plan.default_network
    plan.default_network = lambda n_kept, n_weights: plan.quasi_cyclic_network(n_kept / max(n_weights, 1))
    try:
        yield
    finally:
        plan.default_network = usual


@contextmanager
def panels_of(weights: int) -> Iterator[None]:
    """Cut packed tensors into panels far smaller than they usually are."""
    usual = code_packed.PANEL_WEIGHTS
    code_packed.PANEL_WEIGHTS = weights
    try:
        yield
    finally:
        code_packed.PANEL_WEIGHTS = usual


@contextmanager
def masks_of(octets: int) -> Iterator[None]:
    """Cut bitmaps into panels far smaller than they usually are."""
    usual = huffman.PANEL_BYTES
    huffman.PANEL_BYTES = octets
    try:
        yield
    finally:
        huffman.PANEL_BYTES = usual


def quasi_cyclic(case: Case) -> None:
    """Lanes, turns, panels, segments; corrections and none; groups, dtypes, up to 8 planes."""
    network = XorNetwork.quasi_cyclic
    with rings_of(15):
        case.add(
            "layer.0.wide", bcq(10, (9, 1051), 3, 200), network=network(), rate=0.19, lanes=4, prefer="speed"
        )
        case.add("layer.0.tall", bcq(20, (83, 70), 2, 350, "F16"), network=network(window=7, seed=9), lanes=2)
    half = bcq(30, (5, 1056), 1, 500, group_size=100)
    case.add("layer.0.lanes", half, network=network(), lanes=32, mask_codec="bitmap")
    small_window = network(window=3, n_rows=5)
    case.add("layer.0.warp", bcq(35, (14, 1024), 1, 700), network=small_window, lanes=32, mask_codec="bitmap")
    repeats = network(window=1, n_taps=25, n_rows=3)
    case.add("layer.0.repeats", bcq(38, (9, 64), 2, 500), network=repeats, rate=10 / 18)
    case.add(
        "layer.1.few", bcq(40, (41, 17), 2, 300, "F16", 5), network=network(n_taps=3, n_rows=7), rate=0.5
    )
    case.add("layer.1.conv", bcq(50, (6, 5, 3, 3), 1, 600, "BF16", 13), network=network(n_rows=33), rate=1.0)
    case.add("layer.1.odd", bcq(60, (3, 75), 4, 900, "F16", 40, odd_scales()))
    case.add("layer.1.odd32", bcq(60, (3, 75), 4, 900, "F32", 40, odd_scales()))
    case.add("layer.1.odd16", bcq(60, (3, 75), 4, 900, "BF16", 40, odd_scales()))
    case.add("layer.2.eight", bcq(70, (5, 100), 8, 150, group_size=33), network=network(n_taps=9), rate=0.3)
    case.add("layer.2.wraps", bcq(80, (11, 45), 2, 100), network=network(window=50), rate=0.15, lanes=2)
    with words_of(8, 16):
        case.add("layer.2.default", bcq(90, (24, 96), 2, 100, group_size=128))
    case.add("vector", bcq(95, (77,), 4, 500, group_size=32))


def blocks(case: Case) -> None:
    """Dense, sparse and identity networks, by both encoders."""
    dense, sparse = XorNetwork.dense, XorNetwork.sparse
    with rings_of(25):
        case.add("dense", bcq(110, (13, 333), 2, 300), network=dense(n_in=3, n_out=9), lanes=3)
    case.add("dense.n_s", bcq(120, (12, 100), 3, 400, "BF16"), network=dense(n_in=2, n_out=5, n_s=7, seed=77))
    case.add("dense.thin", bcq(130, (9, 64), 1, 500), network=dense(n_in=2, n_out=9, seed=(1 << 64) - 59))
    case.add(
        "dense.viterbi",
        bcq(140, (7, 130), 2, 300),
        network=dense(n_in=4, n_out=11, n_s=1),
        encoder="viterbi",
        lanes=2,
    )
    case.add("sparse", bcq(150, (10, 97), 2, 500, "F16", 10), network=sparse(n_in=4, n_out=5))
    case.add("sparse.n_s", bcq(160, (8, 80), 1, 300), network=sparse(n_in=3, n_out=8, n_s=2, n_taps=7))
    raw = XorNetwork.identity()
    case.add("identity", bcq(170, (6, 1060), 2, 970), network=raw, lanes=16, mask_codec="bitmap")
    case.add("raw", bcq(180, (4, 260), 3, 999))


def extremes(case: Case) -> None:
    """Everything pruned, nothing pruned, no elements, a scalar."""
    case.add("nothing", bcq(210, (7, 50), 2, 1000, group_size=16))
    case.add("all", bcq(220, (7, 50), 2, 0))
    case.add("all.dense", bcq(230, (3, 33), 3, 0), network=XorNetwork.dense(n_in=2, n_out=3))
    for i, shape in enumerate([(0, 5), (5, 0), (0,), (), (1,), (2, 0, 3)]):
        name = "x".join(map(str, shape)) or "scalar"
        case.add(f"bcq.{name}", bcq(240 + 4 * i, shape, 2, 1000, group_size=3))
        array = (hashed(int(np.prod(shape)), 270 + i) % 251 + 1).astype(np.uint8).reshape(shape)
        case.add(f"lossless.{name}", array)
    case.add("zeros", np.zeros((3, 40), np.float32))
    case.add("ones", np.full((3, 40), -1, np.int8), network=XorNetwork.quasi_cyclic(), mask_codec="bitmap")


def cascade(case: Case) -> None:
    """Masks by the tensor's own gates: one filter to sixteen, odd columns, panels, turns, wrong gates."""
    network = XorNetwork.quasi_cyclic
    how: dict[str, Any] = {"mask_codec": "cascade"}
    with rings_of(15):
        case.add("wide", bcq(510, (11, 1051), 2, 95), network=network(window=5, seed=3), lanes=4, **how)
        case.add("tall", bcq(520, (90, 70), 1, 100, "F16", 9), lanes=2, **how)
    case.add("lanes", bcq(530, (33, 1000), 1, 30), lanes=32, **how)
    case.add("rare", bcq(540, (61, 233), 2, 30, "BF16"), **how)
    case.add("rarer", bcq(550, (150, 77), 1, 3), **how)
    case.add("wrong", bcq(560, (23, 129), 3, 100), network=network(n_taps=3), rate=0.09, lanes=2, **how)
    with words_of(6):
        case.add("wronger", bcq(565, (9, 133), 1, 60), network=network(window=2, n_taps=2), rate=0.02, **how)
    case.add("conv", bcq(570, (14, 5, 3, 3), 2, 80, "F16", 20), **how)
    case.add("vector", bcq(580, (999,), 1, 50), **how)
    case.add("half", bcq(590, (13, 45), 2, 450), **how)
    case.add("nothing", bcq(600, (4, 50), 1, 1000), **how)
    case.add("all", bcq(610, (6, 50), 1, 0), **how)
    case.add("lossless", plain(620, (31, 45), 90, "F16"), **how)
    case.add("auto", bcq(630, (40, 90), 2, 60))
    case.add("speed", bcq(640, (40, 90), 2, 60), prefer="speed", payload="xor")


def block(case: Case) -> None:
    """Masks in blocks of 8 to 32 bits: dense rows, thin rows, empty rows, raw depths alone, blocks of no codeword."""
    network = XorNetwork.quasi_cyclic
    how: dict[str, Any] = {"mask_codec": "block"}
    with rings_of(15):
        case.add("wide", bcq(810, (7, 1051), 1, 95), network=network(window=5, seed=3), lanes=4, **how)
        case.add("tall", bcq(820, (90, 50), 1, 100, "F16", 9), **how)
    case.add("levels", crowded(830, (60, 170), 1), **how)
    case.add("thin", bcq(840, (41, 133), 1, 20, "BF16"), **how)
    case.add("thinner", bcq(850, (80, 97), 1, 4), **how)
    case.add("thinnest", bcq(855, (150, 65), 2, 1), **how)
    case.add("dense", bcq(860, (13, 150), 1, 930), **how)
    case.add("half", bcq(870, (9, 61), 2, 500), **how)
    case.add("conv", bcq(880, (14, 5, 3, 3), 2, 80, "F16", 20), **how)
    case.add("vector", bcq(890, (299,), 1, 50), **how)
    case.add("nothing", bcq(900, (4, 50), 1, 1000), **how)
    case.add("all", bcq(910, (6, 50), 1, 0), **how)
    case.add("columns", bcq(920, (0, 5), 1, 500), **how)
    case.add("lossless", plain(930, (31, 45), 90, "F16"), **how)
    case.add("dense network", bcq(940, (12, 100), 1, 300), network=XorNetwork.dense(n_in=2, n_out=5), **how)
    case.add("auto", crowded(950, (60, 200), 1))
    case.add("by column", crowded(960, (200, 75), 1, 7), **how)
    case.add("by column, wide", crowded(970, (90, 450), 1, 5), **how)


def product(case: Case) -> None:
    """Masks that are Boolean products: one tile and many, odd edges, tiles of several words, factors sought."""
    network = XorNetwork.quasi_cyclic
    for name, salt, shape, rank, tile in (
        ("one", 1010, (5, 20), 1, (9, 32)),
        ("edges", 1020, (23, 70), 2, (7, 32)),
        ("wide", 1030, (11, 333), 3, (4, 96)),
        ("whole", 1040, (30, 45), 5, (30, 64)),
    ):
        tensor, factors = bmf(salt, shape, rank, tile)
        case.add(name, tensor, mask_codec="bmf", factors=factors)
    tensor, _ = bmf(1050, (40, 65), 2, (40, 32))
    case.add("sought", tensor, mask_codec="bmf", network=network(window=5))
    tensor, factors = bmf(1060, (12, 36), 2, (5, 32))
    kept = words.unpack(tensor.mask, 36).reshape(12, 4, 3, 3)
    case.add("conv", np.where(kept, plain(1065, kept.shape, 1000, "I8"), np.int8(0)), factors=factors)


def constants(case: Case) -> None:
    """Planes that are constant: with exceptions, with cascades, with every family; all planes of a tensor."""
    network = XorNetwork.quasi_cyclic
    case.add("exponents", small(710, (20, 45), 1000))
    case.add("exceptions", small(720, (17, 53), 600, 14), prefer="speed", payload="xor")
    case.add("both", small(730, (50, 77), 90, 3))
    case.add("wrong", small(740, (12, 4, 3, 3), 400, 5), network=network(window=4), rate=0.3, lanes=2)
    same = np.where(hashed(1050, 750).reshape(30, 35) % 10 < 2, 0xA5, 0).astype(np.uint8)
    case.add("same", same)
    case.add("same.bitmap", same, mask_codec="bitmap", network=XorNetwork.dense(n_in=2, n_out=9))
    same = same.copy()
    same[::4, ::16] = hashed(24, 760).astype(np.uint8).reshape(8, 3)
    case.add("same.exceptions", same)
    case.add("full", np.full((7, 33), 0x3C, np.int8))
    case.add("bcq.ones", few_signs(bcq(770, (15, 100), 3, 400, "F16"), 775, 1, 1))
    case.add("bcq.zeros", few_signs(bcq(780, (25, 70), 2, 90), 785, 0, 0, 40))
    one = few_signs(bcq(790, (25, 75), 1, 300), 795, 0, 1, 9)
    case.add("bcq.plane", one)
    case.add("raw", few_signs(bcq(800, (6, 224), 2, 1000), 805, 0, 1, 3))
    sparse = XorNetwork.sparse(n_in=4, n_out=5)
    case.add("sparse", few_signs(bcq(810, (10, 97), 3, 500), 815, 2, 0, 7), network=sparse)


def fields(case: Case) -> None:
    """Version 2: fields of every type, narrow and wide, with depths and without, with corrections of both kinds."""
    case.version = 2
    network = XorNetwork.quasi_cyclic
    how: dict[str, Any] = {"field": "always"}
    for i, dtype in enumerate(OLD_DTYPES):
        words = {"F32": (16, 17), "F16": (19, 19)}.get(dtype)
        with words_of(*words) if words else nullcontext():
            case.add(f"skewed.{dtype}", skewed(1110 + 10 * i, (21, 45 + 7 * i), 550, dtype), **how)
        case.add(f"few.{dtype}", few(1115 + 10 * i, (13, 5, 3, 3), 700, dtype, 3 + 6 * i), **how)
    with rings_of(40):
        case.add("wide", skewed(1170, (9, 1100), 400, "BF16"), lanes=4, **how)
    case.add("narrow", skewed(1180, (150, 3), 800, "F16"), **how)
    case.add("full", skewed(1190, (19, 64), 1000, "BF16"), **how)
    case.add("vector", skewed(1200, (700,), 300, "F32"), **how)
    case.add("any", plain(1210, (31, 45), 500, "F16"), **how)
    case.add("two", few(1220, (20, 50), 500, "F32", 2), **how)
    case.add("wrong", skewed(1230, (40, 70), 300, "BF16"), network=network(window=4), rate=0.24, **how)
    case.add("cascade", skewed(1240, (60, 90), 90, "F16"), mask_codec="cascade", **how)
    case.add("block", skewed(1250, (60, 90), 90, "I8"), mask_codec="block", **how)
    case.add("dense", skewed(1260, (20, 60), 500, "BF16"), network=XorNetwork.dense(n_in=2, n_out=3), **how)
    with words_of(127, 65):
        case.add("auto", skewed(1270, (64, 128), 500, "BF16"), field="auto")
    case.add("bcq", bcq(1280, (10, 40), 2, 300))
    case.add("none", skewed(1290, (10, 40), 500, "F16"))
    case.carry(1300, "bias", "F32", (5,), 20)


def trellises(case: Case) -> None:
    """Version 3: rates from 1/64 to 8, all codecs of masks but one, gains, groups, outliers; what else a file holds."""
    case.version = 3
    case.add("quarter", trellis(1310, (37, 70), (1, 4), 9, 3, n_outliers=9))
    case.add("three halves", trellis(1320, (41, 45), (3, 2), 12, 5, dtype="BF16", group_size=20))
    case.add("two", trellis(1330, (50, 77), (2, 1), 12, 6, dtype="F16", kept=300, gains=True, n_outliers=30))
    float32 = ((hashed(21, 1345) % 65521 + 1) / 4096).astype(np.float32)
    case.add("four", trellis(1340, (21, 33), (4, 1), 16, 8, scales=float32, n_outliers=5))
    case.add("eight", trellis(1350, (9, 40), (8, 1), 20, 16, dtype="BF16", gains=True))
    case.add("sixty-fourth", trellis(1360, (150, 35), (1, 64), 7, 1, group_size=7, kept=600))
    case.add("not reduced", trellis(1370, (31, 64), (6, 4), 11, 4, dtype="F16", n_outliers=4))
    case.add("vector", trellis(1380, (77,), (2, 1), 10, 4, group_size=32, n_outliers=3))
    case.add("few rows", trellis(1390, (3, 50), (3, 2), 14, 4, gains=True))
    case.add("wide", trellis(1400, (5, 1051), (1, 2), 8, 2, group_size=100, n_outliers=20))
    case.add("conv", trellis(1410, (6, 5, 3, 3), (5, 4), 13, 5, dtype="BF16", group_size=13, kept=700))
    odd = np.array([65504, 3.0e30, 1.0e-40, -0.0, 1 / 3, -7.7e-6], np.float32)
    a = np.array([1.5, -0.75, 0.0, 2**-30, -0.0, 1 / 3], np.float32)
    for dtype in ("F32", "F16", "BF16"):
        tensor = trellis(
            1420,
            (3, 75),
            (2, 1),
            9,
            6,
            dtype=dtype,
            group_size=40,
            a=a,
            scales=odd,
            gains=True,
            n_outliers=12,
        )
        case.add(f"odd.{dtype}", tensor)
    large = np.array([2.0**100, -(2.0**110)], np.float32)
    case.add("large", trellis(1430, (8, 40), (1, 1), 9, 2, a=large, n_outliers=9))
    case.add("zeros", trellis(1440, (8, 40), (1, 1), 9, 2, a=np.zeros(2, np.float32), n_outliers=9))
    case.add("all pruned", trellis(1450, (6, 50), (1, 1), 8, 2, kept=0))
    case.add("bitmap", trellis(1460, (13, 150), (1, 2), 8, 2, kept=500), mask_codec="bitmap")
    case.add("block", trellis(1470, (40, 133), (1, 4), 8, 2, kept=60, n_outliers=50), mask_codec="block")
    product, factors = bmf(1480, (23, 70), 2, (7, 32))
    case.add(
        "bmf",
        trellis(1490, (23, 70), (1, 2), 8, 3, mask=product.mask, n_outliers=20),
        mask_codec="bmf",
        factors=factors,
    )
    for i, shape in enumerate([(0, 5), (5, 0), (0,), (), (1,), (2, 0, 3)]):
        name = "x".join(map(str, shape)) or "scalar"
        case.add(f"empty.{name}", trellis(1500 + 8 * i, shape, (3, 2), 8, 2, group_size=3, gains=i % 2 == 0))
    case.add("bcq", bcq(1560, (20, 70), 2, 90, group_size=30), mask_codec="cascade")
    case.add("lossless", skewed(1570, (30, 64), 550, "BF16"), field="always")
    case.carry(1580, "bias", "F32", (5,), 20)
    case.carry(1581, "weight.xor_corrections", "U8", (3,), 3)
    case.order = ["bias", *case.encoded, "weight.xor_corrections"]
    case.metadata = {"format": "pt"}


def packed(case: Case) -> None:
    """Version 3: packed bits, in one panel and in several, of both kinds, beside all masks that can stand there."""
    case.version = 3
    how: dict[str, Any] = {"payload": "packed"}
    with panels_of(300):
        case.add("panels", bcq(1610, (23, 70), 2, 90, group_size=30), **how)
        case.add("full", bcq(1620, (9, 75), 3, 1000, "F16"), **how)
        case.add("eight", bcq(1630, (31, 40), 8, 300, "BF16"), **how)
        case.add("odd", bcq(1635, (3, 75), 4, 900, "F16", 40, odd_scales()), **how)
        case.add("exponents", small(1640, (20, 45), 600, 14), **how)
        case.add("halves", skewed(1650, (21, 70), 300, "BF16"), field="always", **how)
    case.add("speed", bcq(1660, (40, 90), 2, 60), prefer="speed")
    case.add("conv", bcq(1670, (6, 5, 3, 3), 1, 600, "BF16", 13), **how)
    case.add("block", bcq(1680, (60, 90), 2, 90), mask_codec="block", **how)
    product, factors = bmf(1690, (23, 70), 2, (7, 32))
    case.add("bmf", product, mask_codec="bmf", factors=factors, **how)
    case.add("signs", few_signs(bcq(1700, (15, 100), 3, 400, "F16"), 775, 1, 1, 5), **how)
    case.add("sign", few_signs(bcq(1710, (25, 70), 1, 300), 795, 0, 1), **how)
    case.add("all pruned", bcq(1720, (6, 50), 2, 0), **how)
    for i, dtype in enumerate(OLD_DTYPES):
        case.add(f"plain.{dtype}", plain(1730 + 2 * i, (21, 45), 400, dtype), **how)
    for i, shape in enumerate([(0, 5), (5, 0), (), (77,)]):
        case.add("empty." + "x".join(map(str, shape)), bcq(1750 + 3 * i, shape, 2, 500), **how)
    with masks_of(13):
        case.add("huffman", bcq(1760, (21, 70), 2, 100), mask_codec="huffman", **how)
        case.add("huffman of code", bcq(1763, (21, 64), 2, 300), mask_codec="huffman")
        case.add("huffman of zeros", bcq(1766, (9, 50), 1, 0), mask_codec="huffman", **how)
        case.add("huffman of none", bcq(1769, (0, 5), 1, 0), mask_codec="huffman", **how)
    case.add("huffman of a trellis", trellis(1773, (23, 70), (1, 2), 8, 3, kept=200), mask_codec="huffman")
    case.add("code", bcq(1780, (20, 70), 2, 90, group_size=30))
    case.carry(1790, "bias", "F32", (5,), 20)


def turned(case: Case) -> None:
    """Version 3: networks of family turned, of every hold, with every number of lanes, panels and segments."""
    case.version = 3
    network = XorNetwork.turned
    with rings_of(15):
        case.add("wide", bcq(1810, (9, 1051), 3, 200), network=network(), rate=0.19, lanes=4)
        few_words = network(window=6, n_rows=16, hold=1, seed=9)
        case.add("tall", bcq(1820, (43, 70), 2, 350, "F16"), network=few_words, lanes=2)
    lanes = bcq(1830, (11, 1056), 1, 500, group_size=100)
    case.add("lanes", lanes, network=network(window=16, hold=4), lanes=32)
    warp = bcq(1840, (41, 1024), 2, 60, group_size=0)
    case.add("warp", warp, network=network(n_rows=48, hold=16, seed=(1 << 64) - 59), lanes=32)
    case.add("rotations", bcq(1850, (517, 33), 1, 20, "F16"), network=network(n_rows=496, seed=7), lanes=1)
    case.add("few", bcq(1860, (5, 40), 2, 60), network=network(hold=2))
    gates = bcq(1890, (24, 1024), 1, 90)
    case.add("cascade", gates, network=network(n_rows=32), lanes=32, mask_codec="cascade")
    case.add("signs", few_signs(bcq(1900, (15, 100), 3, 400, "F16"), 775, 1, 1, 5), network=network())
    case.add("halves", skewed(1920, (21, 70), 300, "BF16"), network=network(hold=4), field="always")
    case.add("all", bcq(1930, (7, 50), 2, 1000), network=network(hold=2))
    case.add("none", bcq(1935, (7, 50), 2, 0), network=network())
    case.add("default", bcq(1950, (40, 160), 1, 170, "F16"))
    case.carry(1970, "bias", "F32", (5,), 20)


def digests(case: Case) -> None:
    """Version 3: digests of planes, of every family and codec, with corrections, constant planes; and of weights."""
    case.version, case.of_planes = 3, True
    network = XorNetwork.quasi_cyclic
    with rings_of(15):
        case.add("wide", bcq(1810, (9, 1051), 3, 200, group_size=500), network=network(), rate=0.19, lanes=4)
    case.add("few", bcq(1820, (41, 17), 2, 300, "F16", 5), network=network(n_taps=3, n_rows=7), rate=0.5)
    case.add("odd", bcq(1830, (3, 75), 4, 900, "BF16", 40, odd_scales()))
    case.add("dense", bcq(1840, (13, 133), 2, 300), network=XorNetwork.dense(n_in=3, n_out=9))
    case.add("sparse", bcq(1850, (10, 97), 2, 500), network=XorNetwork.sparse(n_in=4, n_out=5))
    case.add("raw", bcq(1860, (4, 260), 3, 999))
    case.add("block", bcq(1870, (41, 133), 1, 60), mask_codec="block")
    case.add("cascade", bcq(1880, (31, 129), 3, 100, "F16"), mask_codec="cascade")
    product, factors = bmf(1890, (23, 70), 2, (7, 32))
    case.add("bmf", product, mask_codec="bmf", factors=factors)
    with masks_of(13):
        case.add("huffman", bcq(1900, (21, 64), 2, 300), mask_codec="huffman")
    case.add("signs", few_signs(bcq(1910, (15, 100), 3, 400, "F16"), 1915, 1, 1, 5))
    case.add("eight", bcq(1920, (5, 100), 8, 150, group_size=33))
    case.add("conv", bcq(1930, (6, 5, 3, 3), 1, 600, "BF16", 13))
    case.add("all pruned", bcq(1940, (7, 50), 2, 0, group_size=16))
    for i, shape in enumerate([(0, 5), (5, 0), (), (77,)]):
        case.add("empty." + "x".join(map(str, shape)), bcq(1950 + 3 * i, shape, 2, 500))
    with panels_of(300):
        case.add("packed", bcq(1970, (23, 70), 2, 90, group_size=30), payload="packed")
    case.add("lossless", skewed(1980, (20, 64), 550, "BF16"), field="always")
    case.add("trellis", trellis(1985, (23, 70), (1, 2), 8, 3, kept=200))
    case.carry(1990, "bias", "F32", (5,), 20)


def lossless(dtype: str) -> Callable[[Case], None]:
    """Two tensors of one type: default, and a network that must correct."""

    def build(case: Case) -> None:
        salt = 300 + 10 * OLD_DTYPES.index(dtype)
        case.add("weight", plain(salt, (21, 45), 400, dtype))
        network = XorNetwork.quasi_cyclic(window=6, seed=salt)
        case.add("conv", plain(salt + 2, (4, 3, 5, 7), 300, dtype), network=network, rate=0.3, lanes=2)
        case.add("full", plain(salt + 4, (50,), 1000, dtype))

    return build


def octets(case: Case) -> None:
    """Version 4: its element types, as they are and octet by octet, with fields and without, packed too."""
    case.version = 4
    how: dict[str, Any] = {"field": "always"}
    for i, dtype in enumerate(NEW_DTYPES):
        case.add(f"skewed.{dtype}", skewed(2010 + 10 * i, (15, 37), 550, dtype), **how)
    case.add("few", few(2090, (5, 2, 3, 3), 700, "I32", 9))
    case.add("halves", halves(2100, (21, 50), 1000, "I16"), **how)
    case.add("pruned", halves(2110, (9, 23), 300, "U16"), **how)
    case.add("block", halves(2120, (40, 30), 90, "I32"), mask_codec="block", **how)
    case.add("packed", halves(2130, (15, 30), 400, "I32"), payload="packed", **how)
    network = XorNetwork.quasi_cyclic(window=4)
    case.add("wrong", halves(2140, (20, 20), 700, "U32"), network=network, rate=0.4, **how)
    case.add("vector", halves(2150, (77,), 1000, "I32"), **how)
    case.add("empty", halves(2160, (0, 5), 1000, "I32"), **how)
    case.carry(2170, "bias", "F16", (5,), 10)


def prefixed(case: Case) -> None:
    """Version 4: binary codes under a prefix code, of 1 to 8 planes, with depths and without, all masks beside them."""
    case.version, case.of_planes = 4, True
    how: dict[str, Any] = {"field": "always"}
    network = XorNetwork.quasi_cyclic
    with rings_of(5):
        case.add("wide", signs(2210, (5, 1051), 2, 200), lanes=4, **how)
    case.add("tall", signs(2220, (83, 70), 3, 350, "F16", 32), lanes=2, **how)
    case.add("four", signs(2230, (31, 90), 4, 1000, "BF16"), **how)
    case.add("eight", signs(2240, (20, 100), 8, 500, group_size=33), **how)
    case.add("lanes", signs(2250, (14, 1000), 2, 300), lanes=32, network=XorNetwork.turned(hold=4), **how)
    case.add("cascade", signs(2260, (40, 90), 2, 90), mask_codec="cascade", **how)
    case.add("block", signs(2270, (40, 133), 2, 90), mask_codec="block", network=network(), **how)
    case.add("wrong", signs(2280, (40, 70), 3, 500), network=network(window=4), rate=0.35, **how)
    with words_of(20, 12, 6, 4, 2, 1):
        case.add(
            "wronger", signs(2290, (30, 64), 3, 600), network=XorNetwork.turned(window=6, n_rows=16), **how
        )
    rare = few_signs(few_signs(bcq(2300, (25, 77), 2, 600), 2303, 0, 1, 9), 2304, 1, 1, 9)
    case.add("rare", rare, **how)
    case.add("one plane", signs(2310, (10, 40), 1, 500), **how)
    case.add("conv", signs(2320, (14, 5, 3, 3), 2, 800, "F16", 20), **how)
    case.add("vector", signs(2330, (999,), 2, 500), **how)
    case.add("none", signs(2340, (10, 40), 2, 500))
    case.carry(2350, "bias", "F16", (5,), 10)


def carried(case: Case) -> None:
    """Carried tensors of other types, metadata, settings, an order of its own."""
    case.carry(400, "steps", "I64", (3, 1), 24)
    case.carry(401, "flags", "BOOL", (5,), 5)
    case.carry(402, "double", "F64", (), 8)
    case.carry(403, "half.bias", "F16", (7,), 14)
    case.carry(404, "float8", "F8_E4M3", (3, 3), 9)
    case.carry(405, "empty", "U16", (0, 4), 0)
    case.add("half.weight", bcq(410, (10, 40), 2, 300, "F16"))
    case.add("größe \"'\\ 重み", plain(420, (3, 3), 500, "I8"))
    case.order = [
        "flags",
        "half.weight",
        "half.bias",
        *list(case.encoded)[1:],
        "empty",
        "float8",
        "double",
        "steps",
    ]
    case.metadata = {"format": "pt", "note": 'ünïcode "quoted" \\ \n 重'}
    case.settings = {"bits": 2, "sparsity": None, "nested": {"a": [1, 2.5, "x"]}}


CASES: Mapping[str, Callable[[Case], None]] = {
    "quasi-cyclic": quasi_cyclic,
    "blocks": blocks,
    "extremes": extremes,
    **{f"lossless-{dtype}": lossless(dtype) for dtype in OLD_DTYPES},
    "carried": carried,
    "cascade": cascade,
    "constants": constants,
    "block": block,
    "bmf": product,
    "fields": fields,
    "trellis": trellises,
    "packed": packed,
    "turned": turned,
    "digests": digests,
    "octets": octets,
    "signs": prefixed,
}


def build(directory: Path) -> None:
    """Write every golden file and the digests; FileExistsError where one exists."""
    digests: dict[str, Any] = {}
    for name, fill in CASES.items():
        path = directory / f"{name}.safetensors"
        path.touch(exist_ok=False)
        case = Case()
        with nullcontext() if fill in (turned, octets, prefixed) else no_turned_networks():
            fill(case)
        case.write(path)
        digests[path.name] = {
            "file": hashlib.sha256(path.read_bytes()).hexdigest(),
            "tensors": {k: hashlib.sha256(v).hexdigest() for k, v in case.contents().items()},
        }
    with open(directory / DIGESTS, "x", encoding="utf-8") as file:
        file.write(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    build(Path(sys.argv[1]))
