"""FleXOR (arXiv 2009.04126): layers whose weights are XORs of trained bits, at any fraction of a bit per weight.

The bits are trained as real numbers whose signs are stored. Forward, a plane's sign is the product of the signs of its
taps; backward, the sign of a number ``x`` is taken for ``tanh(slope * x)``. The network is a trellis network
(:mod:`xorpack.code.trellis`), so that what was trained is a tensor of kind ``trellis`` as it stands.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from xorpack import checks
from xorpack.code.trellis import MAX_WINDOW, TrellisNetwork
from xorpack.code.words import pack
from xorpack.encoded import EncodedTensor
from xorpack.encoding.encoder import encode
from xorpack.errors import DataError, ParameterError
from xorpack.tensors import TrellisTensor
from xorpack.torch.modules import put
from xorpack.torch.weight import XorWeight

WINDOW = 12
"""Stored bits among which the taps of a weight are drawn, at the least."""

SLOPE = 10.0
"""Of the tanh in the place of a sign, if none is given: the paper's for small images."""

SPREAD = 1e-3
"""Standard deviation of the numbers that bits begin as, over what a slope of 1 would take."""


class XorLinear(nn.Module):
    """A linear layer that is trained in ``rate`` stored bits per weight, and exported without loss.

    ``W[r, c] = scales[r] * sum_j a[j] * s_j[r, c]``, where the sign ``s_j`` is the XOR of ``n_taps`` of the bits that
    are stored for column c. Bits, scales, a and bias are parameters.

    Args:
        in_features, out_features: as of :class:`torch.nn.Linear`.
        rate: stored bits per weight and plane, above 0 and at most 1: a fraction of at most 64 weights.
        planes: signs that a weight is a sum of, 1 to 8; ``planes * rate`` bits are stored for a weight.
        n_taps: stored bits that a sign is the XOR of.
        slope: of the tanh that stands for a sign in the backward pass.
        bias: whether there is one.
        seed: of the taps.

    Raises:
        ParameterError: an argument breaks its rule.
    """

    index: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        rate: float = 0.8,
        planes: int = 1,
        n_taps: int = 2,
        slope: float = SLOPE,
        bias: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.in_features = checks.whole("in_features", in_features, 1)
        self.out_features = checks.whole("out_features", out_features, 1)
        self.slope = checks.positive("slope", slope)
        self.network = _network(rate, checks.whole("planes", planes, 1, 8), n_taps, seed)
        m = self.network.n_stored(out_features)
        self.register_buffer("index", torch.from_numpy(_index(self.network, out_features)), persistent=False)
        self.bits = nn.Parameter(torch.randn(m, in_features) * SPREAD / slope)
        self.scales = nn.Parameter(torch.full((out_features,), 1 / math.sqrt(in_features)))
        self.a = nn.Parameter(0.5 ** torch.arange(planes, dtype=torch.float32))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    @property
    def weight(self) -> Tensor:
        """The weight, (out_features, in_features)."""
        total = torch.zeros((), dtype=self.bits.dtype, device=self.bits.device)
        for j in range(len(self.a)):
            signs = cast(Tensor, _Xor.apply(self.bits, self.index[:, j], self.slope))  # type: ignore[no-untyped-call]
            total = total + (self.scales * self.a[j])[:, None] * signs
        return total

    def forward(self, x: Tensor) -> Tensor:
        """``x W^T + bias``."""
        return functional.linear(x, self.weight, self.bias)

    def encoded(self) -> EncodedTensor:
        """The weight as it is now, encoded: it decodes to the very numbers of :attr:`weight` in float32.

        Raises:
            DataError: a parameter is NaN or infinite.
        """
        found = {name: getattr(self, name).detach().float().cpu().numpy() for name in ("bits", "scales", "a")}
        for name, values in found.items():
            if not np.isfinite(values).all():
                raise DataError(f"{name} of an XorLinear are NaN or infinite")
        tensor = TrellisTensor(
            shape=(self.out_features, self.in_features),
            dtype="F32",
            network=self.network,
            code=pack(found["bits"] > 0),
            a=found["a"],
            scales=found["scales"][:, None],
        )
        return encode(tensor)

    def export(self) -> nn.Linear:
        """A linear layer with the encoded weight and the same bias."""
        layer = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        layer.register_parameter("bias", self.bias)
        weight = XorWeight.of(self.encoded(), dtype=self.bits.dtype).to(self.bits.device)
        put(layer, "weight", weight)
        return layer

    def extra_repr(self) -> str:
        """What ``print(model)`` says of it."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, rate={self.network.rate:g}, "
            f"bias={self.bias is not None}"
        )


class _Xor(torch.autograd.Function):
    """Signs of one plane, (rows, cols), from the trained bits (m, cols) at ``index`` (rows, n_taps)."""

    @staticmethod
    def forward(ctx: Any, bits: Tensor, index: Tensor, slope: float) -> Tensor:
        signs = torch.where(bits > 0, 1.0, -1.0).to(bits.dtype)
        found = -torch.ones((), dtype=bits.dtype, device=bits.device)
        for tap in index.T:  # XOR of bits is minus the product of minus their signs
            found = found * -signs[tap]
        ctx.save_for_backward(bits, index, signs, found)
        ctx.slope = slope
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        bits, index, signs, found = ctx.saved_tensors
        total = torch.zeros_like(bits)
        for tap in index.T:  # the product of the other signs is this one times that of all
            total.index_add_(0, tap, gradient * found)
        slopes = ctx.slope * (1 - torch.tanh(ctx.slope * bits).square())
        return total * signs * slopes, None, None


def _network(rate: float, planes: int, n_taps: int, seed: int) -> TrellisNetwork:
    checks.positive("rate", rate)
    share = Fraction(rate).limit_denominator(64)
    if not 0 < share <= 1 or abs(float(share) - rate) > 1e-3:
        raise ParameterError(
            f"rate = {rate} is no fraction n / 64 or of fewer weights, above 0 and at most 1"
        )
    n_in, n_out = share.numerator, share.denominator
    # Each plane has stored bits of its own, side by side: n_in of them for each in turn.
    n_in *= planes
    window = min(MAX_WINDOW, max(WINDOW, 6 + -(-n_in // n_out), 2 * -(-n_in // n_out)))
    checks.whole("n_taps", n_taps, 1, window)
    rng = np.random.default_rng(seed)
    taps = []
    for _ in range(n_out):
        row: set[int] = set()
        while len(row) < planes:
            row.add(sum(1 << int(age) for age in rng.choice(window, n_taps, replace=False)))
        taps.append(tuple(sorted(row)))
    return TrellisNetwork(n_in=n_in, n_out=n_out, window=window, taps=tuple(taps))


def _index(network: TrellisNetwork, rows: int) -> NDArray[np.int64]:
    """Which stored bits the planes of each row are XORs of: (rows, planes, n_taps)."""
    ages = np.array(
        [[[a for a in range(network.window) if taps >> a & 1] for taps in row] for row in network.taps]
    )
    ends = network.ends(rows)[:, None, None]
    found: NDArray[np.int64] = (ends - 1 - ages[np.arange(rows) % network.n_out]) % network.n_stored(rows)
    return found
