"""What costs most, and what could be done about it: sentences made from a report's figures."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median_low

from xorpack.analysis.accounting import Account
from xorpack.analysis.bounds import mask_bound
from xorpack.analysis.report.contents import Carried, Part, TensorReport
from xorpack.analysis.tables import mebibytes, ruined
from xorpack.encoding.fields.signs import OVER_ENTROPY
from xorpack.tensors import DTYPES

WORTH = 0.02
"""Share of a file from which something is worth a sentence."""

LOOKS_QUANTIZED = 0.6
"""Entropy over width of kept elements below which they seem to take few values."""

DENSE = 0.01
"""Share of zeros below which a checkpoint is taken as dense."""

EVEN = 4.0
"""How many times as much as others a tensor must gain by a bit more to be named: rates have steps of an eighth."""

PRUNE = "Prune first (and fine-tune), or give --sparsity here to see what it would save."


def for_encoded(
    total: Account, parts: Sequence[Part], tensors: Sequence[TensorReport], carried: Sequence[Carried]
) -> tuple[str, ...]:
    """Advice on an encoded checkpoint, the largest part first; ``total``: of the encoded tensors."""
    n_bytes = sum(part.n_bytes for part in parts)
    about: Mapping[str, Callable[[], str | None]] = {
        "carried": lambda: _carried(carried, n_bytes),
        "mask": lambda: _mask(total, tensors),
        "code": lambda: _code(total, tensors),
        "scales": lambda: _scales(total, tensors),
        "metadata": lambda: _metadata(total, len(tensors)),
    }
    least = WORTH * min(n_bytes, total.n_bytes)
    found = [
        (part.n_bytes, about[part.name]()) for part in parts if part.name in about and part.n_bytes > least
    ]
    texts = tuple(text for _, text in sorted(found, key=lambda item: -item[0]) if text)
    if (gains := _gains(tensors)) is not None:
        texts = (*texts, gains)
    spoilt = ruined({t.name: t.distortion for t in tensors if t.distortion is not None})
    return texts if spoilt is None else (spoilt, *texts)


def _gains(tensors: Sequence[TensorReport]) -> str | None:
    """Which tensors a bit more would help most, where that is known and they differ."""
    gains = {t.name: t.outputs.gain for t in tensors if t.outputs is not None and t.outputs.gain is not None}
    if not gains:
        return None
    first = sorted(gains, key=lambda name: -gains[name])[:3]
    times = gains[first[0]] / max(median_low(gains.values()), 1e-300)
    if times < EVEN:
        return f"Bits are well divided: nowhere would a bit more gain {EVEN:g} times what it does elsewhere."
    return (
        f"A bit more would gain most, by the byte, in {', '.join(first)}: {times:.0f} times as much as in the tensors "
        "in the middle; encode --hessian --target-bits divides them so."
    )


def _share(n_bytes: int, total: Account) -> str:
    return f"{100 * n_bytes / max(total.n_bytes, 1):.0f} % of the encoded tensors"


def _carried(carried: Sequence[Carried], n_bytes: int) -> str | None:
    matrices = [c for c in carried if len(c.shape) > 1 and c.dtype in DTYPES]
    size = sum(c.n_bytes for c in carried)
    if not carried or size < WORTH * n_bytes:
        return None
    share = f"{100 * size / n_bytes:.0f} % of the files"
    text = f"{len(carried)} tensors are carried as they are: {mebibytes(size)}, {share}"
    if not matrices:
        return text + "; none of them is a matrix that could be encoded."
    largest = max(matrices, key=lambda c: c.n_bytes)
    return (
        f"{text}. The largest is {largest.name} ({mebibytes(largest.n_bytes)}); "
        "--include encodes such tensors too, if the model bears it."
    )


def _mask(total: Account, tensors: Sequence[TensorReport]) -> str:
    size = total.section_bytes["mask"]
    now, bound = total.per_weight(size), total.per_weight(total.mask_bound_bits / 8)
    independent = total.per_weight(total.mask_iid_bits / 8)
    differ = (
        f" (rows and columns differ; {independent:.3f} if they did not)" if bound < 0.99 * independent else ""
    )
    text = f"The mask is {_share(size, total)}: {now:.3f} bits per weight. Its entropy is {bound:.3f}{differ}"
    bitmaps = sum(t.account.section_bytes["mask"] for t in tensors if t.mask_codec in ("bitmap", "huffman"))
    if bitmaps > 0.5 * size and now > 1.1 * bound:
        return f"{text}; up to {100 * (1 - bound / now):.0f} % of it can go: --prefer size codes masks near that."
    if now > 1.05 * bound:
        text += f"; {100 * (1 - bound / now):.0f} % of it is the coding's"
    return f"{text}. Beyond its entropy, only another choice of mask (structured, or of low rank) makes it smaller."


def _code(total: Account, tensors: Sequence[TensorReport]) -> str:
    overhead = total.payload_overhead or 1.0
    size = total.payload_bytes
    text = (
        f"The code of the kept weights is {_share(size, total)}, {100 * (overhead - 1):.1f} % above its bound"
    )
    if any(t.kind == "lossless" for t in tensors):
        if overhead > 1.05:
            text += ": planes outside a field are coded one by one, so what their bits say of each other is not used"
        return text + ". Quantizing (--bits) is what makes it smaller."
    text += ". Fewer planes (--bits) or fewer kept weights (--sparsity) make it smaller"
    return " ".join(part for part in (f"{text}.", _symbols(tensors), _payload(tensors)) if part)


def _symbols(tensors: Sequence[TensorReport]) -> str:
    """What tensors would save whose planes say much of each other, those that would save most by name."""
    apart = [t for t in tensors if t.kind == "bcq" and not (t.in_field or t.network.startswith("packed"))]
    saved = {
        t.name: 8 * t.account.payload_bytes - OVER_ENTROPY * t.account.payload_bound_bits
        for t in apart
        if t.account.n_kept
    }
    saved = {name: bits for name, bits in saved.items() if bits > 0}
    share = sum(saved.values()) / max(8 * sum(t.account.payload_bytes for t in tensors), 1)
    if share < WORTH:
        return ""
    first = sorted(saved, key=lambda name: -saved[name])[:3]
    return (
        f"Its planes say something of each other: --symbols entropy would save about {100 * share:.0f} % of it, "
        f"{mebibytes(round(sum(saved.values()) / 8))}, most in {', '.join(first)}; products on a CPU take twice as "
        "long then, and a GPU holds such planes whole."
    )


def _payload(tensors: Sequence[TensorReport]) -> str:
    """Which codec of the kept bits to take, and why."""
    packed = [t.network.startswith("packed") for t in tensors if t.kind == "bcq"]
    if not packed:
        return ""
    if all(packed):
        return (
            "Its bits are packed, which is fastest to encode. A GPU has to hold every plane whole, pruned weights too, "
            "and products on a CPU take twice as long and more: --payload xor is as small, for what runs the weights."
        )
    return (
        "Where weights are stored rather than run, --prefer speed packs their bits: about as small, and encoded some "
        "tens of times as fast."
    )


def _scales(total: Account, tensors: Sequence[TensorReport]) -> str | None:
    size = total.section_bytes["scales"]
    if size < 0.05 * total.n_bytes:
        return None
    now = total.per_weight(size)
    text = f"Scales are {_share(size, total)}: {now:.3f} bits per weight"
    if any(tensor.group_size for tensor in tensors):
        return text + ". Groups twice as large (--group-size) halve that, at some accuracy."
    return text + ", for whole rows already. Fewer planes, or scales of float16, make them smaller."


def _metadata(total: Account, n_tensors: int) -> str | None:
    if total.metadata_bytes < 0.03 * total.n_bytes:
        return None
    each = total.metadata_bytes / max(n_tensors, 1)
    return (
        f"Headers and checksums are {_share(total.metadata_bytes, total)}: {each:.0f} bytes a tensor, "
        "whatever its size. Larger tensors hardly notice."
    )


def for_plain(
    quantized: Account,
    exact: Account,
    negative_zeros: int,
    unfit: Mapping[str, str],
    bits: int,
    path: str,
    quantized_by: str | None = None,
    n_too_small: int = 0,
) -> tuple[str, ...]:
    """Advice on a plain checkpoint.

    Args:
        quantized: what its tensors would become at ``bits`` planes, those that can be quantized.
        exact: what all of them would become, kept bit for bit.
        negative_zeros: weights that are -0.0.
        unfit: tensors that cannot be quantized, and why.
        bits, path: of the commands that are advised.
        quantized_by: what shows that another tool quantized it, or None.
        n_too_small: tensors that would not become smaller.
    """
    found = list(_plain(quantized, exact, negative_zeros, unfit, bits, path))
    if quantized_by is not None:
        found.insert(
            0, f"It is quantized already ({quantized_by}): only --lossless, bit for bit, makes sense here."
        )
    if n_too_small:
        found.append(f"{n_too_small} tensors are so small that they would be carried as they are.")
    return tuple(found)


def _plain(
    quantized: Account, exact: Account, negative_zeros: int, unfit: Mapping[str, str], bits: int, path: str
) -> Iterator[str]:
    total = quantized if quantized.n_weights else exact
    command = shlex.quote(path)
    for name, why in list(unfit.items())[:1]:
        yield f"{len(unfit)} tensors cannot be quantized, only kept bit for bit: {name}: {why}"
    if not total.n_weights:
        yield "No tensor with weights could be encoded."
        return
    n = total.n_weights
    if negative_zeros > 0.01 * n:
        yield (
            f"{100 * negative_zeros / n:.1f} % of the weights are -0.0, as weights multiplied by a mask are. Lossless "
            "coding must keep each; --positive-zeros stores them as +0.0, which compares equal."
        )
    pruned_first = exact.sparsity < DENSE <= quantized.sparsity
    if exact.sparsity < DENSE:
        yield (
            f"Nothing is pruned ({100 * exact.sparsity:.2f} % zeros): there are no zeros to leave out. "
            + ("What follows prunes first; fine-tune in between." if pruned_first else PRUNE)
        )
    if exact.n_kept and exact.payload_bound_bits < LOOKS_QUANTIZED * exact.care_bits:
        yield (
            f"Kept weights hold {exact.payload_bound_bits / exact.n_kept:.1f} bits of information each, in elements of "
            f"{exact.care_bits / exact.n_kept:.0f}: few values, or skewed ones. --lossless comes within a few percent "
            "of that."
        )
    size = exact.per_weight(exact.n_bytes)
    yield (
        f"Kept bit for bit: about {size:.2f} bits per weight, {exact.original_bytes / max(exact.n_bytes, 1):.1f} x "
        f"smaller: xorpack encode {command} OUT --lossless"
    )
    if quantized.n_weights:
        size = quantized.per_weight(quantized.n_bytes)
        yield (
            f"Quantized to {bits} bits: about {size:.2f} bits per weight, "
            f"{quantized.original_bytes / max(quantized.n_bytes, 1):.1f} x smaller: "
            f"xorpack encode {command} OUT --bits {bits}"
            + (f" --sparsity {quantized.sparsity:.2g}" if pruned_first else "")
        )
        mask = quantized.per_weight(quantized.section_bytes["mask"])
        if mask > 0.4 * size:
            yield (
                f"The mask would be {100 * mask / size:.0f} % of that; its entropy is "
                f"{quantized.per_weight(quantized.mask_bound_bits / 8):.3f} bits per weight"
                f" ({mask_bound(quantized.sparsity):.3f} if weights were independent)."
            )
