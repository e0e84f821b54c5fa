"""Which tensors are encoded."""

from __future__ import annotations

import pytest

from xorpack.errors import ParameterError
from xorpack.files.selection import left_out, matches, module_name, select


@pytest.mark.parametrize(
    "name",
    [
        "encoder.layer.0.attention.self.query.weight",
        "encoder.layer.0.output.dense.weight",
        "encoder.layer.0.attn.output.weight",
        "model.layers.31.mlp.gate_proj.weight",
        "model.layers.31.mlp.experts.gate_up_proj",
        "transformer.h.0.attn.c_attn.weight",
        "features.0.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "layers.0.mixer.in_proj.weight",
        "fc1.weight",
        "weight",
    ],
)
def test_matrices_are_encoded(name):
    assert left_out(name, (4, 4)) is None
    assert left_out(name, (0, 4)) is None
    for shape in ((16,), (1, 16), (1, 1, 16), (16, 1), ()):
        assert left_out(name, shape) == "vector"


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("embedding", "model.embed_tokens.weight embeddings.word_embeddings.weight h.wte.weight shared.weight"),
        ("embedding", "tok_emb.weight vit.embeddings.cls_token mask_token emb.weight register_tokens pos_embed"),
        ("position table", "layers.0.attn.relative_position_bias_table rel_pos_h encoder.pos_enc pe scale_shift_table"),
        ("head", "lm_head.weight classifier.weight pooler.dense.weight output.weight model.output.weight fc.weight"),
        ("head", "score.weight cls.predictions.dense.weight lm_head.decoder.weight logits.weight proj_out.weight"),
        ("norm", "h.0.ln_1.weight layers.0.input_layernorm.weight encoder.LayerNorm.weight bn1.weight"),
        ("bias", "conv.bias layers.0.mlp.gate_proj.biases T5.relative_attention_bias.weight"),
        ("router of experts", "layers.0.mlp.gate.weight layers.0.mlp.router.weight block_sparse_moe.gate.weight"),
        ("router of experts", "layers.0.mlp.shared_expert_gate.weight ffn.router.layer.weight gate.wg.weight"),
        ("state of a state space", "layers.0.mixer.A_log backbone.layers.0.mixer.conv1d.weight"),
        ("scale of quantized weights", "l.0.q.scales l.0.q.qzeros l.0.q.g_idx l.q.weight_scale l.q.weight_scale_inv"),
        ("scale of quantized weights", "l.q.input_scale l.q.weight_zero_point l.q.SCB l.q.weight.absmax l.k_scale"),
    ],
)  # fmt: skip
def test_what_is_not_encoded_unless_named(what, names):
    for name in names.split():
        assert left_out(name, (4, 4)) == what, name


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
    no = {"d.weight": "of type I64"}
    found = select(shapes, no)
    assert found.chosen == ("a.weight", "b.weight")
    assert found.left_out == {"c.bias": "bias", "d.weight": "of type I64"}
    assert select(shapes, no, include=["c.bias"]).chosen == ("c.bias",)
    found = select(shapes, no, include=["re:."], exclude=["b"])
    assert found.chosen == ("a.weight",)
    assert found.left_out == {
        "b.weight": "--exclude", "c.bias": "not among --include", "d.weight": "of type I64"
    }  # fmt: skip
    assert select({"lm_head.weight": (2, 2)}, {}, include=["lm_head"]).chosen == ("lm_head.weight",)
    assert select(shapes, no, include="a.weight").chosen == ("a.weight",)
    for wrong in (3, [3], [b"a"], None):
        with pytest.raises(ParameterError, match=r"include holds .* which is not a pattern"):
            select(shapes, no, include=wrong)
    with pytest.raises(ParameterError, match="'c' matches only vectors"):
        select(shapes, no, include=["c"])
    with pytest.raises(ParameterError, match="'e' matches none of the 4"):
        select(shapes, no, exclude=["e"])
    with pytest.raises(ParameterError, match="types that cannot"):
        select(shapes, no, include=["d"])
    with pytest.raises(ParameterError, match="no tensor to encode"):
        select(shapes, no, exclude=["a", "b"])
