"""The plane of a prefix code's depths: codeword bits past the shortest codeword, at fixed positions.

Symbols stand in words, 32 to a word. Bit e of their codewords past the first ``n_raw`` is a word of its own; so a word
of symbols has ``n_depths`` words, a *group*. A row of symbols is cut into ``n_parts`` rows of the plane, each of
``n_groups`` groups, which together fill one panel of 32 words at the most::

    word w = part * n_groups + g   has depth e at row  row * n_parts + part  and word  g * n_depths + place of e

Few codewords are long: most of the plane is don't care, evenly, for deep words stand between shallow ones.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xorpack.code.layout import MAX_STEPS, PANEL_CHUNKS, Layout
from xorpack.code.network import XorNetwork
from xorpack.errors import FormatError, ParameterError

NETWORK = XorNetwork.quasi_cyclic(n_rows=256)
"""The network of all of these planes. Many distinct rows: some stretches have few care bits."""

MAX_ROWS = 1 << 31
"""Limit of the format (exclusive), as for the rows of a tensor."""

MIN_LANE_CODE = 50
"""Stored words of a lane at the least: a rate is a whole number of them."""


def order(n_depths: int) -> NDArray[np.int64]:
    """The depth of every place in a group: shallow ones, which most symbols care for, are spread among the deep.

    >>> order(7)
    array([0, 5, 3, 1, 6, 4, 2])
    """
    stride = (5 * n_depths + 7) // 8
    while math.gcd(stride, n_depths) > 1:
        stride += 1
    return np.arange(n_depths, dtype=np.int64) * stride % max(n_depths, 1)


def parts(n_words: int, n_depths: int) -> tuple[int, int]:
    """``(n_parts, n_groups)`` of a row of ``n_words`` words of symbols."""
    n_groups = max(1, min(PANEL_CHUNKS // max(n_depths, 1), n_words))
    return -(-n_words // n_groups), n_groups


def choose_layout(rows: int, cols: int, n_care: int) -> Layout:
    """The order of coding of a plane: as many lanes as a row has words, or a part of them, so that few are absent."""
    chunks, turns = -(-cols // 32), 1
    while -(-chunks // turns) > 1 and n_care < 32 * MIN_LANE_CODE * -(-chunks // turns):
        turns += 1
    return Layout.choose(rows, cols, n_care, lanes=max(1, -(-chunks // turns)))


def stored_layout(rows: int, cols: int, lanes: int, n_steps: int, row_stride: int, m_lane: int) -> Layout:
    """The order of coding that a file gives.

    Raises:
        FormatError: it breaks a rule.
    """
    if rows >= MAX_ROWS:
        raise FormatError(f"a plane of {rows} rows is more than this format holds")
    try:
        layout = Layout(rows=rows, cols=cols, lanes=lanes, n_steps=n_steps, row_stride=row_stride)
    except ParameterError as error:
        raise FormatError(str(error)) from None
    if n_steps > min(layout.total_steps, MAX_STEPS) or row_stride > max(rows, 1):
        raise FormatError(f"n_steps {n_steps} or row_stride {row_stride} out of range")
    if not 0 <= m_lane <= 2 * n_steps + NETWORK.window:
        raise FormatError(f"m_lane {m_lane} for {n_steps} steps")
    return layout
