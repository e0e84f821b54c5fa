"""FleXOR: accuracy of a small network of XorLinear layers on handwritten digits by the bits that a weight has.

The network and its training are those of :mod:`benchmarks.quality.digits`, with a batch norm before each ReLU; trained
from the start at each rate, by several seeds, then exported: the accuracy is that of the encoded weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.measure import Checks, Row

RATES = (1.0, 0.8, 0.6, 0.4)
"""Those of the paper's first table."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    try:
        import torch

        from benchmarks.quality.packages import packaged

        table = np.loadtxt(packaged("scikit-learn", "digits.csv.gz"), delimiter=",", dtype=np.float32)
    except (ImportError, SystemExit) as error:
        yield Row(what="FleXOR on digits", note=str(error))
        return
    images, labels = torch.from_numpy(table[:, :-1] / 16), torch.from_numpy(table[:, -1]).long()
    for rate in (None, *RATES):
        found = [
            _accuracy(images, labels, rate, seed, 10 if quick else 60) for seed in range(2 if quick else 5)
        ]
        what = "float32" if rate is None else f"{rate:g} bits per weight"
        yield Row(what=f"FleXOR on digits, {what}: test accuracy", samples=found, unit="%", digits=1)


def _accuracy(images: Any, labels: Any, rate: float | None, seed: int, epochs: int) -> float:
    import torch

    from benchmarks.quality.digits import HIDDEN, N_TEST
    from xorpack.torch import XorLinear

    torch.manual_seed(seed)

    def linear(n_in: int, n_out: int) -> Any:
        return torch.nn.Linear(n_in, n_out) if rate is None else XorLinear(n_in, n_out, rate=rate, seed=seed)

    model = torch.nn.Sequential(
        linear(64, HIDDEN), torch.nn.BatchNorm1d(HIDDEN), torch.nn.ReLU(),
        linear(HIDDEN, HIDDEN), torch.nn.BatchNorm1d(HIDDEN), torch.nn.ReLU(),
        linear(HIDDEN, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    train = images[:-N_TEST], labels[:-N_TEST]
    steps = epochs * -(-len(train[0]) // 64)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(train[0])).split(64):
            noisy = train[0][batch] + 0.1 * torch.randn(len(batch), 64)
            loss = torch.nn.functional.cross_entropy(model(noisy), train[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.no_grad():
        if rate is not None:
            trained = model(images[-N_TEST:])
            for i in (0, 3, 6):
                model[i] = model[i].export()
            Checks.require(
                torch.allclose(model(images[-N_TEST:]), trained, atol=1e-3), "exported as it was trained"
            )
        right = model(images[-N_TEST:]).argmax(1) == labels[-N_TEST:]
    return 100 * right.double().mean().item()
