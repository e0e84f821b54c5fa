"""Inference: a language model of SmolLM2-135M's shape with encoded weights beside the dense one, in PyTorch.

The dense model holds what the encoded weights decode to, so that both give the same; weights are random, one matrix of
each shape is quantized, and every layer has a copy of its own. Dense and encoded calls take turns.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

import xorpack
from benchmarks.measure import Checks, Row, seconds

RATES = (2, 3)
GOAL = 1.0
"""Tokens per second of the encoded model over those of the dense one, batch 1."""


def run(quick: bool) -> Iterator[Row]:
    """Rows of this theme."""
    try:
        import torch
        import transformers
    except ImportError as error:
        yield Row(what="inference in PyTorch", note=f"needs {error.name}")
        return
    dense = transformers.LlamaForCausalLM(_config(transformers, quick)).eval()
    tokens = torch.arange(128)[None]
    with torch.inference_mode():
        for rate in RATES:
            encoded = _encode(dense, rate)
            _check(dense(tokens[:, :9]).logits, encoded(tokens[:, :9]).logits)
            for n, at_least in ((1, GOAL), (128, None)):
                pairs = _alternate(lambda m, n=n: m(tokens[:, :n]), dense, encoded, 5 if quick else 25)
                what = f"rate {rate}, {n} token{'s' * (n > 1)} at a time: speed of dense float32"
                note = f"dense {1e3 * np.median([a for a, _ in pairs]):.1f} ms"
                yield Row(
                    what=what, samples=[a / b for a, b in pairs], unit="x", at_least=at_least, note=note
                )
            yield _memory(dense, encoded, rate)
            compiled = torch.compile(encoded, fullgraph=True, backend="aot_eager")
            pairs = _alternate(lambda m: m(tokens[:, :1]), encoded, compiled, 3 if quick else 9)
            what = f"rate {rate}, 1 token, compiled (aot_eager): speed of the same, not compiled"
            yield Row(what=what, samples=[a / b for a, b in pairs], unit="x")


def _config(transformers: Any, quick: bool) -> Any:
    return transformers.LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=4 if quick else 30,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        tie_word_embeddings=True,
    )


def _encode(dense: Any, rate: int) -> Any:
    """A copy of the model with encoded linear layers; the dense one gets what they decode to."""
    import torch

    from xorpack.torch import XorWeight, put

    @cache
    def weight(shape: tuple[int, ...]) -> XorWeight:
        values = np.random.default_rng(0).standard_normal(shape, dtype=np.float32) / np.float32(
            shape[1] ** 0.5
        )
        return XorWeight.of(xorpack.encode(xorpack.quantize(values, method="trellis", rate=rate, jobs=2)))

    encoded = copy.deepcopy(dense)
    for name, layer in dense.named_modules():
        if isinstance(layer, torch.nn.Linear) and name != "lm_head":
            found = weight(tuple(layer.weight.shape))
            layer.weight.data = found.decode()
            put(encoded.get_submodule(name), "weight", copy.deepcopy(found))
    return encoded


def _check(expected: Any, found: Any) -> None:
    error = float((found - expected).abs().max() / expected.abs().max())
    Checks.require(error < 1e-4, f"logits of encoded and decoded weights differ by {error:.1e}")


def _alternate(call: Callable[[Any], Any], a: Any, b: Any, n: int) -> list[tuple[float, float]]:
    """Seconds of both, in turns, after a first call that is not counted."""
    pairs = [(seconds(lambda: call(a)), seconds(lambda: call(b))) for _ in range(n + 1)]
    return pairs[1:]


def _memory(dense: Any, encoded: Any, rate: int) -> Row:
    from xorpack.torch import XorWeight

    weights = [module for module in encoded.modules() if isinstance(module, XorWeight)]
    n_bytes = sum(section.nbytes for weight in weights for section in weight.sections().values())
    share = n_bytes / sum(4 * weight.numel() for weight in weights)
    return Row(
        what=f"rate {rate}: bytes of encoded weights, of their float32", samples=[100 * share], unit="%"
    )
