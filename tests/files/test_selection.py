"""Which tensors are encoded."""

from __future__ import annotations

import pytest

from xorpack.errors import ParameterError
from xorpack.files.selection import by_default, matches, module_name, select


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.0.attention.self.query.weight",
        "model.layers.31.mlp.gate_proj.weight",
        "transformer.h.0.attn.c_attn.weight",
        "features.0.weight",
        "model.layers.0.self_attn.o_proj.weight",
    ],
)
def test_matrices_are_encoded(name):
    assert by_default(name, (4, 4))
    assert not by_default(name, (16,))


@pytest.mark.parametrize(
    "name",
    [
        "model.embed_tokens.weight",
        "embeddings.word_embeddings.weight",
        "transformer.wte.weight",
        "lm_head.weight",
        "classifier.weight",
        "pooler.dense.weight",
        "h.0.ln_1.weight",
        "layers.0.input_layernorm.weight",
        "encoder.LayerNorm.weight",
        "conv.bias",
        "bn1.weight",
        "shared.weight",
    ],
)
def test_embeddings_heads_norms_and_biases_are_not(name):
    assert not by_default(name, (4, 4))


def test_patterns_match_whole_components():
    name = "encoder.layer.1.attention.self.query.weight"
    for pattern in ("encoder", "layer.1", "attention.self", "self.query.weight", "re:encoder", "re:.*query$"):
        assert matches(pattern, name), pattern
    for pattern in ("layer.11", "enc", "layer", "query.bias", "re:query"):
        assert matches(pattern, name) == (pattern == "layer"), pattern
    assert module_name("a.b.weight") == "a.b"
    assert module_name("weight") == "weight"


def test_select():
    shapes = {"a.weight": (2, 2), "b.weight": (2, 2), "c.bias": (2,), "d.weight": (2, 2)}
    suitable = {"a.weight": True, "b.weight": True, "c.bias": True, "d.weight": False}
    assert select(shapes, suitable) == ["a.weight", "b.weight"]
    assert select(shapes, suitable, include=["c.bias"]) == ["c.bias"]
    assert select(shapes, suitable, include=["re:."], exclude=["b"]) == ["a.weight"]
    assert select({"lm_head.weight": (2, 2)}, {"lm_head.weight": True}, include=["lm_head"]) == [
        "lm_head.weight"
    ]
    with pytest.raises(ParameterError, match="'c' matches only vectors"):
        select(shapes, suitable, include=["c"])
    with pytest.raises(ParameterError, match="'e' matches none of the 4"):
        select(shapes, suitable, exclude=["e"])
    with pytest.raises(ParameterError, match="types that cannot"):
        select(shapes, suitable, include=["d"])
    with pytest.raises(ParameterError, match="no tensor to encode"):
        select(shapes, suitable, exclude=["a", "b"])
