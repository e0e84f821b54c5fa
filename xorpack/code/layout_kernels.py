"""The order of coding for numba kernels: the equations of :mod:`xorpack.code.layout`, inlined.

A kernel walks the steps of a segment, or the words of a row::

    p, r, k = visit(t, rows, lanes, row_stride, n_sub)     step t: its panel, its row, the place of its lane 0
    for lane in range(lanes):
        chunk = chunk_of(p, k, chunks, panel_chunks)        -1 where it is absent
        k = next_place(k, lanes, n_sub)

    t = step_of(p, i, c, rows, n_sub)                       turn c of row index i in panel p
"""

from __future__ import annotations

from xorpack.vector.compiled import part


@part
def visit(t, rows, lanes, row_stride, n_sub):
    """``(panel, row, place)`` of lane 0 at step t; the place is a chunk of the panel, or past its last one."""
    i = t // n_sub % rows
    return t // n_sub // rows, i * row_stride % rows, place_of(t % n_sub, i, lanes, n_sub)


@part
def place_of(c, i, lanes, n_sub):
    """The place of lane 0 at turn c of row index i: the skew."""
    return (c * lanes + i) % (n_sub * lanes)


@part
def next_place(k, lanes, n_sub):
    """The place of the lane after the one at place k."""
    return k + 1 if k + 1 < n_sub * lanes else 0


@part
def chunk_of(p, k, chunks, panel_chunks):
    """The chunk at place k of panel p, -1 where there is none."""
    chunk = p * panel_chunks + k
    return chunk if k < panel_chunks and chunk < chunks else -1


@part
def step_of(p, i, c, rows, n_sub):
    """The step of turn c of row index i in panel p."""
    return (p * rows + i) * n_sub + c
