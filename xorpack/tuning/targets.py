"""What a teacher says of tokens, as little of it as a student needs, and how far the student is from that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from xorpack.errors import DataError, ParameterError

N_LIKELY = 128
"""Likeliest tokens whose probabilities are kept; the others count as one."""


@dataclass(frozen=True, slots=True)
class Targets:
    """The likeliest next tokens by the teacher.

    Attributes:
        tokens: int32 (positions, n).
        log_probabilities: float32 (positions, n).
    """

    tokens: Tensor
    log_probabilities: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Targets:
        """Those of logits (positions, vocabulary).

        Raises:
            DataError: logits are NaN or infinite.
        """
        logits = logits.float()
        likely = logits.topk(min(N_LIKELY, logits.shape[-1]), sorted=False)
        log_probabilities = likely.values - logits.logsumexp(-1, keepdim=True)
        if not torch.isfinite(log_probabilities).all():
            raise DataError("the teacher's logits are NaN or infinite")
        return cls(likely.indices.to(torch.int32), log_probabilities)

    def divergence(self, logits: Tensor) -> Tensor:
        """Kullback-Leibler divergence of a student's logits (positions, vocabulary), in nats, the mean of positions."""
        logits = logits.float()
        found = logits.gather(-1, self.tokens.long()) - logits.logsumexp(-1, keepdim=True)
        wanted = self.log_probabilities
        apart = (wanted.exp() * (wanted - found)).sum(-1)
        if self.tokens.shape[-1] < logits.shape[-1]:
            rest, other = _rest(wanted), _rest(found)
            apart = apart + rest.exp() * (rest - other)
        return apart.mean()


def logits_of(model: Any, tokens: Tensor) -> Tensor:
    """The logits of a model on one sequence of tokens, (positions, vocabulary).

    Raises:
        ParameterError: it gives none for each token.
    """
    logits = getattr(model(tokens[None].to(model.device)), "logits", None)
    if logits is None or logits.ndim != 3 or logits.shape[1] != len(tokens):
        raise ParameterError(f"{type(model).__name__} gives no logits for each token: it cannot be distilled")
    found: Tensor = logits[0]
    return found


def _rest(log_probabilities: Tensor) -> Tensor:
    """The logarithm of the probability of all other tokens together."""
    return (1 - log_probabilities.exp().sum(-1)).clamp(min=1e-6).log()
