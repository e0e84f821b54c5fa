"""What errors of a layer's outputs cost a causal language model: the loss's squared gradients, output by output.

To second order, errors ``e`` of an output raise the loss of a text by ``g^2 e^2 / 2`` on average, ``g`` being the
gradient by that output: Fisher's information stands for the curvature, as in GuidedQuant (arXiv 2505.07004). So these
few numbers tell what squared errors of different layers are worth in the same unit, nats, and bits can be given to
those that need them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xorpack.calibration.collect import Progress
from xorpack.calibration.sums import KeptSums
from xorpack.errors import DataError

TOKENS, LENGTH = 8192, 512
"""Tokens of the calibration text that gradients are taken of, at the most; those of a piece: what is kept for going
back grows with it."""


def predicts(model: torch.nn.Module) -> bool:
    """Whether a model is a causal language model, whose loss is that of the next token."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return type(model).__name__ in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values()


def pieces_of(sequences: torch.Tensor) -> torch.Tensor:
    """Pieces of some of the calibration's sequences, spread over the text, int64 (n, length)."""
    length = min(sequences.shape[1], LENGTH)
    pieces = sequences[:, : sequences.shape[1] // length * length].reshape(-1, length)
    return pieces[:: max(1, len(pieces) * length // TOKENS)]


def squared_gradients(
    model: torch.nn.Module,
    pieces: torch.Tensor,
    layers: Mapping[str, torch.nn.Linear],
    progress: Progress | None = None,
    kept: KeptSums | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The mean squared gradient by each output of each layer, over the tokens that the layer was given.

    Args:
        model: a causal language model in the state of evaluation. Its parameters will need no gradients any more.
        pieces: tokens, int64 (n, length), of :func:`pieces_of`.
        layers: of the model, by name.
        progress: told of every piece.
        kept: where sums are kept from time to time, and found.

    Returns:
        By name, float32 (outputs,); layers that were given no token are left out.

    Raises:
        DataError: the loss, or a gradient, is NaN or infinite.
    """
    model.requires_grad_(False)
    device = next(model.parameters()).device
    sums = {
        f"{n}.sum": torch.zeros(m.out_features, dtype=torch.float64, device=device) for n, m in layers.items()
    }
    seen = {f"{n}.seen": torch.zeros(1, dtype=torch.float64) for n in layers}

    def watch(name: str, output: torch.Tensor) -> None:
        def add(gradient: torch.Tensor) -> None:
            rows = gradient.detach().reshape(-1, gradient.shape[-1])
            sums[f"{name}.sum"] += rows.double().square().sum(0)
            seen[f"{name}.seen"] += len(rows)

        if output.requires_grad:
            output.register_hook(add)  # type: ignore[no-untyped-call]

    hooks = [
        layer.register_forward_hook(lambda _, args, output, name=name: watch(name, output))
        for name, layer in layers.items()
    ]
    embedding: Any = model.get_input_embeddings()  # type: ignore[operator]
    hooks.append(embedding.register_forward_hook(lambda _, args, output: output.requires_grad_()))

    def told(n: int) -> None:
        if progress is not None:
            progress("gradients", n, len(pieces))

    try:
        for i, piece in (kept or KeptSums()).over("gradients", pieces, {**sums, **seen}, told):
            tokens = piece.to(device)
            with torch.enable_grad():
                logits = model(tokens[None]).logits[0, :-1]
                loss = torch.nn.functional.cross_entropy(logits.float(), tokens[1:], reduction="sum")
            if not math.isfinite(loss.item()):
                raise DataError(f"the model's loss is {loss.item()} in piece {i} of the text")
            loss.backward()  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    for name in layers:
        total, n = sums[f"{name}.sum"].cpu().numpy(), float(seen[f"{name}.seen"])
        if not np.isfinite(total).all():
            raise DataError(f"layer {name!r} has a gradient of NaN or infinity")
        if n:
            found[name] = (total / n).astype(np.float32)
    return found
