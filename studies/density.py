"""Where a mask keeps its weights: by block, row and column, and along each order of coding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from studies import figures, orders
from xorpack.analysis.density import density_map
from xorpack.code.words import Words, popcount, unpack

CELLS = (32, 48)
"""Rows and columns of a density map at the most."""


def draw_density(figure: Any, mask: Words, cols: int) -> None:
    """A density map, and the share kept by row and by column, sorted, beside independent weights."""
    kept = unpack(mask, cols)
    share = float(kept.mean())
    left, middle, right = figures.panels(figure, 3, columns=3, width_ratios=(1.4, 1, 1))
    image = left.imshow(density_map([mask], len(kept), cols, CELLS), cmap="cividis", aspect="auto", vmin=0)
    figure.colorbar(image, ax=left, label="share kept")
    left.set(
        title=f"{len(kept)} x {cols} weights, in blocks", xlabel="block of inputs", ylabel="block of outputs"
    )
    left.grid(False)
    for ax, axis, name in ((middle, 1, "rows"), (right, 0, "columns")):
        shares = np.sort(kept.mean(axis=axis))
        n = kept.shape[axis]
        chance = np.sort(np.random.default_rng(0).binomial(n, share, shares.size) / n)
        ax.plot(np.linspace(0, 100, shares.size), shares, color=figures.COLORS[0], label="this mask")
        ax.plot(
            np.linspace(0, 100, shares.size),
            chance,
            color=figures.COLORS[1],
            linestyle="--",
            label="independent weights",
        )
        ax.set(title=f"{name}, sorted", xlabel=f"% of the {name}", ylabel="share kept", ylim=(0, None))
    figures.legend(figure, middle)


def draw_orders(figure: Any, mask: Words, cols: int) -> None:
    """Kept weights of every 4096 that a lane codes in succession, a panel per order; two sigmas of chance."""
    rows, n_kept = len(mask), popcount(mask)
    n, share = orders.WINDOW_WEIGHTS, n_kept / (rows * cols)
    sigma = math.sqrt(n * share * (1 - share))
    axes = figures.panels(figure, len(orders.ORDERS), columns=3, sharey=True)
    for number, (ax, order) in enumerate(zip(axes, orders.ORDERS, strict=True)):
        counts = orders.window_counts(mask, orders.layout(order, rows, cols, n_kept))
        ax.plot(counts, color=figures.COLORS[number], linewidth=1)
        ax.axhspan(
            n * share - 2 * sigma, n * share + 2 * sigma, color="0.6", alpha=0.5, label="independent: 95 %"
        )
        ax.set(title=f"{order}: spread {orders.spread(counts):.1f}", xlabel=f"stretch of {n} weights")
        ax.set_ylim(0, None)
    axes[0].set_ylabel("kept")
    figures.legend(figure, axes[0])
