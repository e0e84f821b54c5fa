"""Kernels of :mod:`xorpack.fields.codewords`: prefix codes as ANDs and ORs of words."""

from __future__ import annotations

import numpy as np

from xorpack.vector.compiled import njit, part
from xorpack.vector.xor import choose_words, copy_words, put_words

NODE, FIRST, MORE, NOTHING = 0, 1, 2, 3
"""Steps of a program: the word of a node; the first that is written to a plane, and more; a plane of which all is 0."""


@njit(cache=True, nogil=True)
def recode_kernel(
    program,  # (n, 5) int64: see Codewords
    longest,  # bits of the longest codeword
    planes,  # (longest * n_words,) uint32
    mask,  # (n_words,) uint32
    begin,
    end,
    nodes,  # (longest * block,) uint32, scratch
    out,  # (n_out * n_words,) uint32
):
    """Words ``begin .. end - 1`` of ``out``, a block at a time."""
    block = nodes.size // longest
    for first in range(begin, end, block):
        n = min(block, end - first)
        copy_words(nodes, 0, mask, first, n)
        recode(program, planes, first, mask.size, nodes, block, out, first, 16, mask.size, n)


@part
def recode(program, planes, here, stride, nodes, block, out, to, row, step, n):
    """``n`` words from ``planes[here:]``, planes ``stride`` apart, to ``out[to:]``, its planes ``step`` apart.

    Of a plane of ``out``, 16 words stand together; the next 16 begin ``row`` further. ``nodes``: the first ``n`` words
    are the mask; those of deeper nodes are ``block`` apart, written over.
    """
    for x in range(program.shape[0]):
        what, target, node = program[x, 0], program[x, 1], program[x, 2] * block
        edge = here + program[x, 3] * stride
        flip = np.uint32(0) if program[x, 4] else np.uint32(0xFFFFFFFF)
        if what == NODE:
            choose_words(nodes, target * block, nodes, node, planes, edge, flip, n)
        elif what == NOTHING:
            for i in range(n):
                out[to + target * step + i // 16 * row + i % 16] = 0
        else:
            keep = np.uint32(0) if what == FIRST else np.uint32(0xFFFFFFFF)
            put_words(out, to + target * step, row, keep, nodes, node, planes, edge, flip, n)
