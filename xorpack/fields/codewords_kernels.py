"""Kernels of :mod:`xorpack.fields.codewords`: prefix codes as ANDs and ORs of words."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit, part
from xorpack.vector.xor import choose_words, copy_words, or_words


@njit(cache=True, nogil=True)
def recode_kernel(
    codewords,  # (n,) int64: see Codewords
    lengths,
    shared,
    values,
    planes,  # (longest codeword * n_words,) uint32
    mask,  # (n_words,) uint32
    begin,
    end,
    nodes,  # ((longest codeword + 1) * block,) uint32, scratch
    out,  # (n_out * n_words,) uint32
):
    """Words ``begin .. end - 1`` of ``out``, a block at a time."""
    longest = np.int64(0)
    for i in range(lengths.size):
        longest = max(longest, lengths[i])
    block = nodes.size // (longest + 1)
    n_out = out.size // max(mask.size, 1)
    for first in range(begin, end, block):
        n = min(block, end - first)
        copy_words(nodes, 0, mask, first, n)
        recode(
            codewords, lengths, shared, values, planes, first, mask.size, nodes, block, out, first, 16, mask.size,
            n_out, n,
        )  # fmt: skip


@part
def recode(
    codewords, lengths, shared, values, planes, here, stride, nodes, block, out, to, row, step, n_out, n
):
    """``n`` words from ``planes[here:]``, planes ``stride`` apart, to ``out[to:]``, its ``n_out`` ones ``step`` apart.

    Of a plane of ``out``, 16 words stand together; the next 16 begin ``row`` further.

    ``nodes``: the first ``n`` words are the mask; those of deeper nodes are ``block`` apart, written over.
    """
    fresh = (np.int64(1) << n_out) - 1  # planes to which nothing has been written
    for leaf in range(codewords.size):
        length = lengths[leaf]
        for d in range(shared[leaf], length):
            flip = np.uint32(0) if codewords[leaf] >> length - 1 - d & 1 else np.uint32(0xFFFFFFFF)
            choose_words(nodes, (d + 1) * block, nodes, d * block, planes, here + d * stride, flip, n)
        value = values[leaf]
        for k in range(n_out):
            if value >> k & 1:
                keep = np.uint32(0) if fresh >> k & 1 else np.uint32(0xFFFFFFFF)
                or_words(out, to + k * step, row, keep, nodes, length * block, n)
        fresh &= ~value
    for k in range(n_out):
        if fresh >> k & 1:
            for i in range(n):
                out[to + k * step + i // 16 * row + i % 16] = 0
