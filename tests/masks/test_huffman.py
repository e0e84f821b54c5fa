"""Mask codec ``huffman``: sizes beside the entropy, any rows, any bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_samples import comes_back, crowded, entropy, reread, with_mask
from samples import bcq

import xorpack
from xorpack.encoding.masks import choice, huffman, huffman_kernels
from xorpack.encoding.masks.huffman import HuffmanProposal, code_lengths
from xorpack.encoding.masks.proposal import WantedMask
from xorpack.errors import FormatError
from xorpack.masks import huffman_kernels as decoding
from xorpack.masks.huffman import MAX_LENGTH, TABLE_BYTES, Huffman, codewords, decoding_table


def coded(kept: Any, panel: int = 16, **how: Any) -> Any:
    """The mask, in panels of so many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(huffman, "PANEL_BYTES", panel)
        return xorpack.encode(with_mask(kept), mask_codec="huffman", **how)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_mask_and_rows(data: st.DataObject) -> None:
    rows, cols = data.draw(st.integers(0, 40)), data.draw(st.integers(0, 90))
    density = data.draw(st.sampled_from([0.0, 0.02, 0.3, 0.5, 0.97, 1.0]))
    kept = np.random.default_rng(rows * 100 + cols).random((rows, cols)) < density
    found = coded(kept, data.draw(st.sampled_from([1, 3, 16, 64, 8192])))
    first = data.draw(st.integers(0, rows))
    assert comes_back(found, with_mask(kept), first, data.draw(st.integers(first, rows)))


@pytest.mark.parametrize("payload", ["xor", "packed"])
@pytest.mark.parametrize("jobs", [1, 3])
def test_threads(payload: Any, jobs: int) -> None:
    tensor = with_mask(crowded(300, 777))
    found = xorpack.encode(tensor, mask_codec="huffman", payload=payload, jobs=jobs)
    assert found.mask.data.tobytes() == xorpack.encode(tensor, mask_codec="huffman").mask.data.tobytes()
    assert np.array_equal(found.mask.rows(5, 290, None, jobs=jobs), tensor.mask[5:290])  # type: ignore[arg-type]


@pytest.mark.parametrize(("sparsity", "most"), [(0.5, 1.01), (0.8, 1.02), (0.9, 1.03), (0.95, 1.07)])
def test_size(sparsity: float, most: float) -> None:
    tensor = bcq((512, 2048), sparsity, 1)
    mask = xorpack.encode(tensor, mask_codec="huffman", payload="packed").mask
    bits = 8 * mask.data.size / tensor.n_weights
    assert 0.995 < bits / entropy(tensor.n_kept / tensor.n_weights) < most
    proposal = HuffmanProposal.of(WantedMask(words=tensor.mask, cols=2048, n_kept=tensor.n_kept))
    assert abs(proposal.bits / 8 - proposal.CONFIG_BYTES - mask.data.size) <= mask.n_panels
    assert HuffmanProposal.typical_bits(1 - sparsity) == pytest.approx(bits, rel=0.01)


def test_speed_takes_it_where_bits_are_packed() -> None:
    sparse, half = bcq((200, 300), 0.9, 2), bcq((200, 300), 0.5, 2)
    assert xorpack.encode(sparse, prefer="speed").mask_codec == "huffman"
    assert xorpack.encode(half, prefer="speed").mask_codec == "bitmap"
    assert xorpack.encode(sparse, prefer="speed", payload="xor").mask_codec == "bitmap"
    assert xorpack.encode(sparse, payload="packed").mask_codec == "block"
    assert choice.estimate_bits(0.1, "auto", "speed") == 1
    assert 0.47 < choice.estimate_bits(0.1, "auto", "speed", packs=True) < 0.49


@given(st.lists(st.integers(0, 10**9), min_size=256, max_size=256))
def test_codes_are_complete_and_read_from_the_first_bit_on(counts: list[int]) -> None:
    lengths = code_lengths(np.array(counts))
    assert sum(1 << MAX_LENGTH - int(n) for n in lengths if n) == 1 << MAX_LENGTH
    assert all(n for n, count in zip(lengths, counts, strict=True) if count)
    words = codewords(lengths).tolist()
    seen = {(int(n), word) for n, word in zip(lengths, words, strict=True) if n}
    for n, word in seen:
        assert not any((k, word & (1 << k) - 1) in seen for k in range(1, n))


@pytest.mark.parametrize("size", [0, 1, 7, 64, 100, 129])
def test_kernels_in_plain_python(size: int) -> None:
    octets = np.random.default_rng(size).geometric(0.3, size).astype(np.uint8)
    made = []
    for kernels, count, encode, decode in (
        ("compiled", huffman_kernels.count_bytes, huffman_kernels.encode_panels, decoding.decode_panels),
        (
            "plain",
            huffman_kernels.count_bytes.py_func,
            huffman_kernels.encode_panels.py_func,
            decoding.decode_panels.py_func,
        ),
    ):
        counts = np.zeros(256, np.int64)
        count(octets, counts)
        assert counts.tolist() == np.bincount(octets, minlength=256).tolist(), kernels
        lengths = code_lengths(counts)
        sizes, out = np.zeros(-(-size // 16), np.uint32), np.zeros(2 * size + 8, np.uint8)
        end = encode(octets, 16, codewords(lengths), lengths, sizes, out)
        assert end == sizes.sum()
        words = np.concatenate([out[:end], np.zeros(8 + -end % 4, np.uint8)]).view(np.uint32)
        back = np.zeros(size, np.uint8)
        bits = 8 * np.concatenate([[0], np.cumsum(sizes.astype(np.int64))])
        assert decode(words, bits, 0, len(sizes), decoding_table(lengths), 16, back) == -1
        assert np.array_equal(back, octets)
        made.append(out.tobytes())
    assert made[0] == made[1]


def changed(data: Any, at: int, value: int) -> Any:
    found = np.array(data)
    found[at] = value
    return found


def test_bytes_that_break_a_rule() -> None:
    good = coded(np.random.default_rng(0).random((40, 64)) < 0.2, network=xorpack.XorNetwork.quasi_cyclic())
    data, n_panels = good.mask.data, good.mask.n_panels
    assert n_panels == 20
    for bad, message in (
        (changed(data, 0, 255), "no complete code"),
        (changed(data, 0, 0x21), "no complete code"),
        (changed(data, TABLE_BYTES, 99), "panels end at byte"),
        (np.append(data, np.uint8(0)), "panels end at byte"),
    ):
        with pytest.raises(FormatError, match=f"mask codec huffman: .*{message}"):
            reread(good, data=bad).mask.rows(0, 40, None)  # type: ignore[arg-type]
    sizes = TABLE_BYTES + 4 * np.arange(2)
    moved = np.array(data)
    moved[sizes] += np.array([1, 255], np.uint8)  # one more, one less
    with pytest.raises(FormatError, match=r"codewords of panel [01] do not end"):
        reread(good, data=moved).mask.rows(0, 40, None)  # type: ignore[arg-type]
    for size, config in ((TABLE_BYTES + 79, 16), (data.size, 0), (data.size, (1 << 24) + 1), (5000, 16)):
        with pytest.raises(FormatError, match="mask codec huffman"):
            reread(good, data=np.zeros(size, np.uint8), config={"panel_bytes": config})
    for config in ({}, {"panel_bytes": 1.0}, {"panel_bytes": True}, {"panel_bytes": 16, "x": 1}):
        with pytest.raises(FormatError, match="huffman needs panel_bytes"):
            reread(good, config=config)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_an_error_or_another_mask(data: st.DataObject) -> None:
    """Nothing is read or written outside."""
    mask = coded(np.random.default_rng(1).random((31, 50)) < 0.2).mask
    octets = np.array(mask.data)
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, octets.size - 1))] = data.draw(st.integers(0, 255))
    try:
        found = replace(mask, data=octets).rows(0, 31, None)  # type: ignore[arg-type]
    except FormatError:
        return
    assert found.shape == (31, 2)
    assert isinstance(mask, Huffman)
