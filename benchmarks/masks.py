"""Masks: bits per weight of every codec beside the entropy and ANS, and what they cost beside the bitmap."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xorpack
from benchmarks.data import NOT_INSTALLED, model_directory, model_matrices, random_bcq
from benchmarks.measure import Checks, Row, check_decodes, interleaved, ratios, times
from xorpack.analysis.bounds import binary_entropy, mask_bound
from xorpack.code import words
from xorpack.code.expand import expand
from xorpack.encoded import EncodedTensor
from xorpack.encoding.masks.block import BlockProposal
from xorpack.encoding.masks.bmf import fit
from xorpack.encoding.masks.proposal import WantedMask
from xorpack.files import container
from xorpack.tensors import BCQTensor

CASCADE = ((0.8, 0.815), (0.9, 0.525), (0.95, 0.32), (0.98, 0.16))
BLOCK = ((0.5, 1.04), (0.6, 1.04), (0.7, 1.04), (0.8, 1.04), (0.9, 1.04), (0.95, 1.04), (0.98, 1.07))
ALEXNET = ((4096, 9216), (4096, 4096), (1000, 4096))
ALEXNET_MASK_BITS = 0.183
"""What 0.28 bits per weight leave for the mask beside the payload and scales."""

MODEL = "all-MiniLM-L6-v2, 36 matrices, S 0.9 by tensor"


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    size, n = (2048, 2) if quick else (4096, 5)
    for sparsity, goal in CASCADE:
        tensor = random_bcq(size, sparsity, 2)
        encoded = _encoded(tensor, "cascade")
        yield Row(
            what=f"mask by cascade, i.i.d. {size} x {size}, S {sparsity}",
            samples=[_mask_bits(encoded)],
            unit="bits per weight",
            digits=4,
            at_most=goal,
            note=f"entropy {mask_bound(sparsity):.4f}, {encoded.mask_config['n_filters']} filters",
        )
    for sparsity, goal in BLOCK:
        tensor = random_bcq(size, sparsity, 1)
        encoded, proposal = _encoded(tensor, "block"), _proposal(tensor)
        bound = binary_entropy(encoded.n_kept / encoded.n_weights)
        yield Row(
            what=f"mask by block over the entropy, i.i.d. {size} x {size}, S {sparsity}",
            samples=[_mask_bits(encoded) / bound],
            unit="x",
            digits=4,
            at_most=goal,
            note=f"{_mask_bits(encoded):.4f} bits per weight; {_losses(encoded, proposal, bound)}",
        )
    yield from _ans(random_bcq(size, 0.9, 1))
    yield from _times(size, n)
    yield from _two_cores(2 * size, n)
    yield from _model()
    yield from _alexnet(quick)


def _encoded(tensor: BCQTensor, codec: str, **how: Any) -> EncodedTensor:
    encoded = xorpack.encode(tensor, mask_codec=codec, **how)
    check_decodes(encoded, tensor)
    return encoded


def _proposal(tensor: BCQTensor) -> BlockProposal:
    wanted = WantedMask(words=tensor.mask, cols=tensor.shape[1], n_kept=tensor.n_kept)
    return BlockProposal.of(wanted)


def _mask_bits(encoded: EncodedTensor) -> float:
    """Bits per weight of the mask, its config in the header included."""
    config = len(json.dumps(dict(encoded.mask_config), separators=(",", ":")))
    return 8 * (encoded.mask.data.nbytes + config) / encoded.n_weights


def _losses(encoded: EncodedTensor, proposal: BlockProposal, bound: float) -> str:
    codewords = proposal.codeword_bits / encoded.n_weights
    return f"codewords {codewords / bound:.4f} x, their code {_mask_bits(encoded) / codewords:.4f} x"


def _two_cores(size: int, n: int) -> Iterator[Row]:
    tensor = random_bcq(size, 0.9, 1)
    for codec in ("cascade", "block"):
        encoded = xorpack.encode(tensor, mask_codec=codec, jobs=2)
        calls = [partial(encoded.load_mask, expand, jobs=jobs) for jobs in (1, 2)]
        samples = ratios(*interleaved(calls, 3 * n))
        what = f"decode the mask, {codec}, {size} x {size}, S 0.9, two cores / one"
        yield Row(what=what, samples=samples, unit="x")


def _times(size: int, n: int) -> Iterator[Row]:
    """Time of masks: decoding, and encoding beside the bitmap."""
    for sparsity, _ in CASCADE:
        tensor = random_bcq(size, sparsity, 2)
        where = f"{size} x {size}, S {sparsity}, q 2"
        for codec, goal in (("cascade", 3), ("block", 0.5)):
            encoded = xorpack.encode(tensor, mask_codec=codec)
            seconds = times(partial(encoded.load_mask, expand), n)
            rates = [encoded.n_weights / s / 1e9 for s in seconds]
            yield Row(
                what=f"decode the mask, {codec}, {where}, one core",
                samples=rates,
                unit="G weights/s",
                at_least=goal,
            )
        calls = [
            partial(xorpack.encode, tensor, mask_codec=codec) for codec in ("cascade", "block", "bitmap")
        ]
        cascade, block, bitmap = interleaved(calls, n)
        yield Row(
            what=f"encode with cascade / with bitmap, {where}, one core",
            samples=ratios(cascade, bitmap),
            unit="x",
            at_most=2,
        )
        yield Row(
            what=f"encode with block / with bitmap, {where}, one core",
            samples=ratios(block, bitmap),
            unit="x",
        )


def _ans_bits(mask: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> int | None:
    """Bits of constriction's ANS coder for a mask under a density per row; None where it is not installed."""
    try:
        import constriction
    except ImportError:
        return None
    coder = constriction.stream.stack.AnsCoder()
    model = constriction.stream.model.Bernoulli(perfect=False)
    each = np.repeat(np.clip(probabilities, 1e-6, 1 - 1e-6), mask.shape[1])
    coder.encode_reverse(mask.reshape(-1).astype(np.int32), model, each)
    decoded = coder.clone().decode(model, each)
    Checks.require(bool((decoded == mask.reshape(-1)).all()), "ANS: decode(encode(mask)) is not the mask")
    return int(coder.num_valid_bits())


def _rows_in_a_byte(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Densities of rows, each as it can be stored in a byte: in equal steps of the logit."""
    share = (mask.sum(axis=1) + 0.5) / (mask.shape[1] + 1)
    levels = np.clip(np.round(16 * np.log(share / (1 - share))), -128, 127)
    return 1 / (1 + np.exp(-levels / 16))


def _ans(tensor: BCQTensor) -> Iterator[Row]:
    mask = words.unpack(tensor.mask, tensor.shape[1])
    bits = _ans_bits(mask, np.full(len(mask), mask.mean()))
    what = f"mask by ANS (variable length), i.i.d. {mask.shape[0]} x {mask.shape[1]}, S 0.9"
    if bits is None:
        yield Row(what=what, note="not installed: constriction")
        return
    block = _mask_bits(xorpack.encode(tensor, mask_codec="block"))
    note = f"block {block * mask.size / bits:.4f} x this"
    yield Row(what=what, samples=[bits / mask.size], unit="bits per weight", digits=4, note=note)


def _model() -> Iterator[Row]:
    directory = model_directory()
    goals = {f"mask by block, {MODEL}": 0.465, f"the whole file, {MODEL}, q 2, scales per row": 0.78}
    if directory is None:
        yield from (Row(what=what, at_most=goal, note=NOT_INSTALLED) for what, goal in goals.items())
        return
    encoded, n_weights = {}, 0
    totals = dict.fromkeys(("block", "i.i.d.", "by row", "codewords", "classes", "ANS", "ANS by row"), 0.0)
    for name, matrix in model_matrices(directory):
        tensor = xorpack.quantize(matrix, bits=2, sparsity=0.9)
        one = encoded[name] = _encoded(tensor, "block")
        mask = words.unpack(tensor.mask, matrix.shape[1])
        rows = mask.mean(axis=1)
        n_weights += mask.size
        totals["block"] += _mask_bits(one) * mask.size
        totals["i.i.d."] += binary_entropy(mask.mean()) * mask.size
        totals["by row"] += sum(map(binary_entropy, rows)) * mask.shape[1]
        proposal = _proposal(tensor)
        totals["codewords"] += proposal.codeword_bits
        totals["classes"] += len(mask) * (len(proposal.code.row_levels) - 1).bit_length()
        totals["ANS"] += _ans_bits(mask, np.full(len(mask), mask.mean())) or np.nan
        totals["ANS by row"] += (_ans_bits(mask, _rows_in_a_byte(mask)) or np.nan) + 8 * len(mask)
    per = {key: value / n_weights for key, value in totals.items()}
    (what, goal), (what_file, goal_file) = goals.items()
    entropies = f"entropy {per['i.i.d.']:.4f}, by row {per['by row']:.4f}"
    parts = f"codewords {per['codewords']:.4f}, classes of rows {per['classes']:.4f}"
    yield Row(
        what=what,
        samples=[per["block"]],
        unit="bits per weight",
        digits=4,
        at_most=goal,
        note=f"{entropies}; {parts}",
    )
    for key, how in (("ANS", "one density per tensor"), ("ANS by row", "a byte of density per row")):
        if not np.isnan(per[key]):
            what_ans = f"mask by ANS, {how}, the same masks"
            note = f"block {per['block'] / per[key]:.4f} x this"
            yield Row(what=what_ans, samples=[per[key]], unit="bits per weight", digits=4, note=note)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "matrices.safetensors"
        container.write(path, encoded, {})
        Checks.require(xorpack.verify_checkpoint(path).n_tensors == len(encoded), "verify the matrices")
        bits = 8 * path.stat().st_size / n_weights
    yield Row(
        what=what_file,
        samples=[bits],
        unit="bits per weight",
        digits=4,
        at_most=goal_file,
        note=f"headers included; {32 / bits:.1f} x smaller than float32",
    )


def _normal(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def _crowded(shape: tuple[int, int], seed: int) -> NDArray[np.float32]:
    """Normal weights whose rows and columns differ in scale, by exp of a normal of 0.5 each."""
    rng = np.random.default_rng([seed + 1, *shape])
    rows, cols = (np.exp(rng.normal(0, 0.5, n)).astype(np.float32) for n in shape)
    return _normal(shape, seed) * rows[:, None] * cols


def _alexnet(quick: bool) -> Iterator[Row]:
    kinds: dict[str, Callable[[tuple[int, int], int], NDArray[np.float32]]] = {
        "i.i.d. weights": _normal,
        "weights of rows and columns that differ": _crowded,
    }
    for kind, draw in kinds.items():
        n_bytes = n_weights = kept = pruned = 0
        best = got = 0.0
        for shape in ALEXNET:
            weight = draw((shape[0] // 4, shape[1] // 4) if quick else shape, 7)
            magnitude = np.abs(weight)
            factors = fit(magnitude, 0.91, mask_bits=ALEXNET_MASK_BITS, jobs=2)
            tensor = xorpack.quantize(weight, bits=1, mask=factors.mask(), jobs=2)
            encoded = _encoded(tensor, "bmf", factors=factors, jobs=2)
            config = len(json.dumps(dict(encoded.mask_config)))
            n_bytes += sum(encoded.section_bytes().values()) + config
            n_weights += weight.size
            kept += encoded.n_kept
            pruned += weight.size - encoded.n_kept
            got += float(magnitude[words.unpack(tensor.mask, weight.shape[1])].sum(dtype=np.float64))
            largest = np.partition(magnitude.reshape(-1), weight.size - encoded.n_kept)
            best += float(largest[weight.size - encoded.n_kept :].sum(dtype=np.float64))
        yield Row(
            what=f"all sections with bmf, AlexNet FC shapes{' / 4' if quick else ''}, S 0.91, q 1, {kind}",
            samples=[8 * n_bytes / n_weights],
            unit="bits per weight",
            digits=4,
            at_most=None if quick else 0.28,
            note=f"S {pruned / n_weights:.4f}, keeps {100 * got / best:.1f} % of the largest weights' magnitude",
        )
