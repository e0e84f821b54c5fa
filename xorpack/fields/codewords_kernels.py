"""Kernels of :mod:`xorpack.fields.codewords`: prefix codes as ANDs and ORs of words."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit, part


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
        for i in range(n):
            nodes[np.uint64(i)] = mask[np.uint64(first + i)]
        recode(codewords, lengths, shared, values, planes, first, mask.size, nodes, block, out, first, mask.size, n_out, n)  # fmt: skip


@part
def recode(codewords, lengths, shared, values, planes, here, stride, nodes, block, out, to, step, n_out, n):
    """``n`` words from ``planes[here:]``, the planes ``stride`` apart, to ``out[to:]``, its ``n_out`` ones ``step`` apart.

    ``nodes``: the first ``n`` words are the mask; those of deeper nodes are ``block`` apart, written over.
    """
    for k in range(n_out):
        for i in range(n):
            out[np.uint64(to + k * step + i)] = np.uint32(0)
    for leaf in range(codewords.size):
        length = lengths[leaf]
        for d in range(shared[leaf], length):
            above, below, plane = d * block, (d + 1) * block, here + d * stride
            if codewords[leaf] >> length - 1 - d & 1:
                for i in range(n):
                    nodes[np.uint64(below + i)] = nodes[np.uint64(above + i)] & planes[np.uint64(plane + i)]
            else:
                for i in range(n):
                    nodes[np.uint64(below + i)] = nodes[np.uint64(above + i)] & ~planes[np.uint64(plane + i)]
        node, value = length * block, values[leaf]
        for k in range(n_out):
            if value >> k & 1:
                for i in range(n):
                    out[np.uint64(to + k * step + i)] |= nodes[np.uint64(node + i)]
