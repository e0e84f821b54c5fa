"""Entropy bounds, each in bits per weight unless its name says otherwise.

A pruned, quantized tensor is a mask and q planes of the kept weights. With sparsity S, and p = 1 - S:

=====================================  =================================================================
bound                                  formula
=====================================  =================================================================
payload of independent planes          ``p q``; :mod:`xorpack.analysis.entropy` for those of real weights
mask, given                            ``H(S)`` (i.i.d.); :mod:`xorpack.analysis.mask_models` for others
mask, chosen to hold a share f of      ``2 H(p) - H(p f, p (1 - f), p (1 - f), 1 - p (2 - f))``
the wanted weights
corrections at encoding efficiency E   ``H(1 - E)`` per care bit
=====================================  =================================================================

Sources: Shannon (1948) for entropy and the rate of a code with errors, (1959) for rate and distortion.
"""

from __future__ import annotations

import math

Z95 = 1.96
"""Standard errors on either side of a 95 % confidence interval."""


def binary_entropy(p: float) -> float:
    """H(p) of one bit that is 1 with probability p.

    >>> binary_entropy(0.5), binary_entropy(0.0)
    (1.0, 0.0)
    """
    if p <= 0 or p >= 1:
        return 0.0
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


def payload_bound(sparsity: float, bits: int) -> float:
    """``(1 - S) q``: each of q planes of a kept weight carries one bit that nothing tells.

    Planes that were fitted to weights depend on each other: see :func:`bcq_payload_bound`.
    """
    return (1 - sparsity) * bits


_SYMBOL_BITS = {2: (1.937, 1.903, 1.849), 3: (2.873, 2.817, 2.720), 4: (3.814, 3.741, 3.618)}
"""Entropy of the symbols of q planes, which are fitted to normal weights in the usual groups, at sparsities 0, .5, .9:
measured. Those of all-MiniLM-L6-v2 are within .02 of them up to .5, and .03 to .08 above at .9."""


def bcq_payload_bound(sparsity: float, bits: int) -> float:
    """Bits per weight that kept weights of binary codes hold, about, their planes being fitted to normal weights.

    Signs are random; of the other planes more agree with the sign the larger a weight is. Above 4 planes each
    one more counts whole.

    >>> round(bcq_payload_bound(0.5, 3), 3), bcq_payload_bound(0.5, 1)
    (1.409, 0.5)
    """
    if bits < 2:
        return payload_bound(sparsity, bits)
    none, half, most = _SYMBOL_BITS[min(bits, 4)]
    at = min(sparsity, 0.9)
    per_kept = none + (half - none) * at / 0.5 if at < 0.5 else half + (most - half) * (at - 0.5) / 0.4
    return (1 - sparsity) * (per_kept + max(0, bits - 4))


def mask_bound(sparsity: float) -> float:
    """``H(S)``: a given mask of independent, identically distributed weights."""
    return binary_entropy(sparsity)


def mask_bound_error(sparsity: float, n_weights: int) -> float:
    """Half the width of the 95 % confidence interval of :func:`mask_bound`, S having been counted.

    The delta method: ``1.96 |log2((1 - S) / S)| sqrt(S (1 - S) / n)``.
    """
    if not 0 < sparsity < 1 or n_weights < 1:
        return 0.0
    return Z95 * abs(math.log2((1 - sparsity) / sparsity)) * math.sqrt(sparsity * (1 - sparsity) / n_weights)


def given_mask_bound(sparsity: float, bits: int) -> float:
    """``H(S) + (1 - S) q``: the mask is what it is, and all of it must come back."""
    return mask_bound(sparsity) + payload_bound(sparsity, bits)


def chosen_mask_bound(sparsity: float, held: float) -> float:
    """Rate of a mask of sparsity S that may be chosen, so long as it holds a share of the wanted weights.

    The rate-distortion function of i.i.d. masks (Shannon 1959): the mutual information between the wanted
    and the chosen mask, both of density p = 1 - S, that have ``held * p`` of their ones in common. All of
    them: ``H(S)``. No more than chance has (``held = p``): 0, any fixed mask will do. A mask stored in less
    than ``H(S)`` has been chosen, or is not i.i.d.

    >>> round(chosen_mask_bound(0.9, 1.0), 3), round(chosen_mask_bound(0.9, 0.1), 3)
    (0.469, 0.0)
    """
    p = 1 - sparsity
    f = min(max(held, p), 1.0)
    cells = (p * f, p * (1 - f), p * (1 - f), 1 - p * (2 - f))
    joint = -sum(c * math.log2(c) for c in cells if c > 0)
    return max(0.0, 2 * binary_entropy(p) - joint)


def held_at_rate(sparsity: float, mask_bits: float) -> float:
    """The largest share of wanted weights that a mask stored in ``mask_bits`` can hold.

    The inverse of :func:`chosen_mask_bound`.

    >>> held_at_rate(0.9, 1.0)
    1.0
    """
    low, high = 1 - sparsity, 1.0
    if mask_bits >= chosen_mask_bound(sparsity, high):
        return high
    for _ in range(60):
        middle = (low + high) / 2
        if chosen_mask_bound(sparsity, middle) <= mask_bits:
            low = middle
        else:
            high = middle
    return low


def correction_floor(efficiency: float) -> float:
    """``H(1 - E)`` bits per care bit: what it costs to say which of them the network gets wrong.

    >>> correction_floor(1.0)
    0.0
    """
    return binary_entropy(1 - efficiency)


def parameter_bits(n: float) -> float:
    """Cost in bits of one Bernoulli parameter that is fitted to n symbols.

    ``log2`` of the sum over k of C(n, k) (k/n)^k (1 - k/n)^(n - k), what the best universal code loses to the
    code that knows the parameter (Shtarkov 1987), by Szpankowski's expansion (1998), which is within 1 % from
    n = 1 on.

    >>> parameter_bits(0), round(parameter_bits(1), 1)
    (0.0, 1.0)
    """
    if n <= 0:
        return 0.0
    return math.log2(
        math.sqrt(n * math.pi / 2) + 2 / 3 + math.sqrt(2 * math.pi) / (24 * math.sqrt(n)) - 4 / (135 * n)
    )
