"""Searches taps of trellis networks: ``python -m benchmarks.trellis_search RATE WINDOW PLANES [--proposals N]``.

Prints one design as ``xorpack/encoding/quantize/trellis_taps.py`` has them; those there were found with other draws.
Hill climbing: the best of a few drawn tables, then one or two changes at a time (a tap more or less, two planes
exchanged), kept where the squared error on Gaussian columns falls after least squares for the codes. Draws come from
the hash of :func:`xorpack.code.network.splitmix64`, columns from a fixed seed, so a search gives the same taps again.

What was learned: newest bits belong into the planes of the largest codes, one each, and older bits everywhere (set
partitioning: the newest choose the branch's level, the older its coset); codes want to be flatter than binary
(0.8 to 0.9 from plane to plane), so that levels are dense in the middle as the weights are; half of the gain over drawn
taps comes from such codes, half from climbing.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from xorpack.code.network import splitmix64
from xorpack.code.trellis import TrellisNetwork
from xorpack.code.words import pack
from xorpack.encoding.quantize.trellis_design import kinds
from xorpack.encoding.quantize.trellis_fit import solve
from xorpack.encoding.quantize.trellis_search import FINE_RATE, Search

ROWS = 4096
CHUNKS = 1
N_DRAWN = 16
LARGEST_CODE = 2.0

Table = tuple[tuple[int, ...], ...]


@dataclass
class Draws:
    """Integers from the hash, one after another."""

    seed: int
    counter: int = field(default=0)

    def below(self, n: int) -> int:
        """The next integer, 0 to ``n - 1``."""
        self.counter += 1
        return (splitmix64(self.seed, self.counter) >> 11) % n


def network_of(rate: Fraction, window: int, table: Table) -> TrellisNetwork:
    """The network whose rows of kind k have taps ``table[k]``."""
    taps = tuple(table[kind] for kind in kinds(rate))
    return TrellisNetwork(n_in=rate.numerator, n_out=rate.denominator, window=window, taps=taps)


def draw_table(rate: Fraction, window: int, n_planes: int, draws: Draws) -> Table:
    """Taps for every kind of row: newest bit j in plane j, older bits anywhere."""
    floor = rate.numerator // rate.denominator
    table = []
    for kind in range(max(kinds(rate)) + 1):
        n_new = floor + kind if rate >= 1 else int(kind == 0)
        low = max(n_new, 1)
        row = []
        for j in range(n_planes):
            newest = (1 << low - 1 - j if n_new else draws.below(2)) if j < low else 0
            row.append((1 + draws.below((1 << window - low) - 1)) << low | newest)
        table.append(tuple(row))
    return tuple(table)


def changed(table: Table, window: int, draws: Draws) -> Table:
    """``table`` with one or two changes."""
    rows = [list(row) for row in table]
    for _ in range(1 + draws.below(2)):
        row = rows[draws.below(len(rows))]
        j = draws.below(len(row))
        if draws.below(10) == 0:
            i = draws.below(len(row))
            row[i], row[j] = row[j], row[i]
        else:
            row[j] = row[j] ^ 1 << draws.below(window) or 1
    return tuple(tuple(row) for row in rows)


def refit(
    network: TrellisNetwork, a: NDArray[np.float64], weight: NDArray[np.float32]
) -> tuple[float, NDArray[np.float64]]:
    """Relative squared error with the best codes for the bits that ``a`` leads to, and those codes."""
    cols = weight.shape[1]
    code = np.zeros((network.n_stored(len(weight)), cols // 32), np.uint32)
    search = Search(
        weight=weight,
        network=network,
        a=a,
        scales=np.ones((len(weight), 1)),
        gains=np.ones(cols),
        group=cols,
        care=pack(np.ones(weight.shape, np.bool_)),
        importance=np.ones((1, cols), np.float32),
        fine=network.rate >= FINE_RATE,
    )
    search.run(code, range(cols // 32), 1)
    equations = sum(
        (search.equations(code, chunk) for chunk in range(cols // 32)), np.zeros((len(a), len(a) + 1))
    )
    best = solve(equations, a)
    energy = float((weight.astype(np.float64) ** 2).sum())
    error = energy - 2 * equations[:, -1] @ best + best @ equations[:, :-1] @ best
    return float(error) / energy, best


def climb(
    rate: Fraction, window: int, n_planes: int, ratio: float, n_proposals: int, seed: int
) -> tuple[float, NDArray[np.float64], Table]:
    """Error, codes and taps of the best table found."""
    weight = np.random.default_rng(1).standard_normal((ROWS, 32 * CHUNKS), np.float32)
    draws = Draws(seed)
    start = ratio ** np.arange(n_planes)
    start *= np.sqrt((1 - 4.0 ** -float(rate)) / (start**2).sum())
    error, a, table = np.inf, start, ()
    for _ in range(N_DRAWN):
        drawn = draw_table(rate, window, n_planes, draws)
        network, codes, found = network_of(rate, window, drawn), start, np.inf
        for _ in range(3):
            found, codes = refit(network, codes, weight)
        if found < error:
            error, a, table = found, codes, drawn
    for _ in range(n_proposals):
        proposal = changed(table, window, draws)
        network = network_of(rate, window, proposal)
        found, codes = refit(network, a, weight)
        if error <= found < 1.003 * error:
            found, codes = refit(network, codes, weight)
        if found < error and np.abs(codes).max() < LARGEST_CODE:
            error, a, table = found, codes, proposal
    fresh = np.random.default_rng(77).standard_normal((ROWS, 32 * CHUNKS), np.float32)
    return refit(network_of(rate, window, table), a, fresh)[0], a, table


def main() -> None:
    """Search one design and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("rate", type=Fraction, help="stored bits per weight: 2, 3/2")
    parser.add_argument("window", type=int, help="stored bits that a weight depends on")
    parser.add_argument("planes", type=int)
    parser.add_argument(
        "--ratio", type=float, default=0.85, help="of each code to the one before, to begin with"
    )
    parser.add_argument("--proposals", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    error, a, table = climb(
        options.rate, options.window, options.planes, options.ratio, options.proposals, options.seed
    )
    print(
        f"    # {options.rate} bits, relative squared error {error:.5f}, bound {4.0 ** -float(options.rate):.5f}"
    )
    print(f"    {options.window}: (\n        ({', '.join(f'{x:.4f}' for x in a)}),\n        (")
    for row in table:
        print(f"            ({', '.join(f'0x{mask:X}' for mask in row)}),")
    print("        ),\n    ),")


if __name__ == "__main__":
    main()
