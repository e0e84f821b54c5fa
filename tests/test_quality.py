"""Settings of the quality benchmark, without its model: what they are, what they make of a weight, what they count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import xorpack
from benchmarks.quality import __main__ as command
from benchmarks.quality.calibrated import hessians_of
from benchmarks.quality.gptq import gptq
from benchmarks.quality.incoherence import rotation
from benchmarks.quality.score import Score, agreement, perplexity
from benchmarks.quality.setting import Setting
from xorpack.encoding.fitting.hessian import output_error


def test_a_setting_is_read():
    setting = Setting.parse("trellis:rate=2.5,column_gains=True,scale_dtype='float16',rotate=True")
    assert setting.options == {"rate": 2.5, "column_gains": True, "scale_dtype": "float16"}
    assert setting.rotate
    assert Setting.parse("dense").options == {}


@pytest.mark.parametrize(
    ("text", "why"), [("awq:bits=4", "awq"), ("bcq:bits", "NAME=VALUE"), ("bcq:bits=x", "'x' is no value")]
)
def test_what_is_no_setting_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        Setting.parse(text)


@pytest.mark.parametrize("n", [1, 9, 64, 96, 576, 1536])
def test_the_rotation_is_orthogonal_and_spreads(n):
    turn = rotation(n).astype(np.float64)
    assert np.allclose(turn @ turn.T, np.eye(n), atol=1e-5)
    assert np.abs(turn).max() <= np.sqrt(2 / n) + 1e-6 or n == 1


@pytest.mark.parametrize("extra", ["", ",rotate=True"])
def test_a_setting_counts_every_section(extra):
    weight = np.random.default_rng(3).standard_normal((160, 96)).astype(np.float32)
    decoded, n_bytes = Setting.parse("trellis:rate=3,window=9" + extra).apply(weight, 1)
    assert ((decoded - weight) ** 2).mean() < 0.04
    assert 3 * weight.size / 8 < n_bytes < 3.4 * weight.size / 8
    if not extra:
        tensor = xorpack.quantize(weight, method="trellis", rate=3, window=9)
        assert np.array_equal(tensor.dequantize(), decoded)
    assert Setting.parse("dense").apply(weight, 1)[1] == 4 * weight.size


def test_peers_count_what_their_formats_need():
    gguf = pytest.importorskip("gguf")
    weight = np.random.default_rng(3).standard_normal((16, 512)).astype(np.float32)
    decoded, n_bytes = Setting.parse("gguf:name='Q4_0'").apply(weight, 1)
    assert n_bytes == 4.5 * weight.size / 8  # 4 bits, and a float16 for 32
    codes = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q4_0)
    assert np.array_equal(decoded, gguf.quants.dequantize(codes, gguf.GGMLQuantizationType.Q4_0))


def test_lossless_weights_come_back_and_zeros_cost_little():
    weight = np.random.default_rng(3).standard_normal((64, 96)).astype(np.float32)
    weight[np.abs(weight) < 1.6] = 0
    for method in ("lossless", "bcq:bits=2", "trellis:rate=2"):
        decoded, n_bytes = Setting.parse(method).apply(weight, 1)
        assert (decoded[weight == 0] == 0).all()
        assert n_bytes < 0.2 * weight.nbytes
    assert np.array_equal(Setting.parse("lossless").apply(weight, 1)[0], weight)


def test_an_interval_is_that_of_the_mean():
    x = np.random.default_rng(5).standard_normal(400)
    score = Score.of(len(x), lambda i: x[i].mean())
    assert score.value == x.mean()
    assert score.high - score.low == pytest.approx(2 * 1.96 * x.std() / 20, rel=0.06)
    assert score == Score.of(len(x), lambda i: x[i].mean())


def test_perplexity_is_of_all_tokens():
    losses = np.random.default_rng(6).exponential(3, 1000).astype(np.float32)
    score = perplexity(losses)
    assert score.value == pytest.approx(np.exp(losses.astype(np.float64).mean()))
    assert score.low < score.value < score.high


def test_agreement_is_of_pairs_of_different_texts():
    rng = np.random.default_rng(7)
    given = np.triu(rng.random((30, 30)), 1) + np.eye(30)
    found = np.triu(given + 0.3 * rng.standard_normal((30, 30)))
    found = found + found.T  # what lies below the diagonal, and on it, is not asked for
    upper = np.triu_indices(30, 1)
    score = agreement(found, given)
    assert score.value == pytest.approx(np.corrcoef(found[upper], given[upper])[0, 1])
    assert score.low < score.value < score.high < 1
    assert agreement(given, given).low == pytest.approx(1)


def test_settings_that_know_activations_lose_less_of_the_output():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((400, 64)) @ (np.eye(64) + 0.5 * rng.standard_normal((64, 64)))
    weight, hessian = rng.standard_normal((128, 64)).astype(np.float32), x.T @ x
    errors, sizes = {}, {}
    for text in ("gptq:bits=2,group_size=64", "fit:rate=2,window=9", "trellis:rate=2,window=9"):
        decoded, sizes[text] = Setting.parse(text).apply(weight, 1, hessian)
        errors[text] = output_error(weight, decoded, hessian)
    assert sizes["gptq:bits=2,group_size=64"] == (2 + (16 + 2) / 64) * weight.size / 8
    others = errors["gptq:bits=2,group_size=64"], errors["trellis:rate=2,window=9"]
    assert errors["fit:rate=2,window=9"] < 0.7 * min(others)
    plain = np.abs(weight - gptq(weight, np.eye(64), bits=8)[0]).max()
    assert plain < np.ptp(weight) / 255


def test_errors_of_outputs_are_summed_over_layers_that_statistics_know():
    hessian = np.diag([1.0, 4.0])
    sums = [0.0, 0.0]
    command._add(sums, np.ones((1, 2)), np.ones((1, 2)), None)
    assert command._said(sums) == ""
    command._add(sums, np.array([[1.0, 2.0]]), np.array([[1.0, 1.0]]), hessian)
    command._add(sums, np.array([[2.0, 0.0]]), np.array([[3.0, 0.0]]), hessian)
    assert sums == [5.0, 14.0]
    assert command._said(sums) == ", outputs' error 0.35714"


def test_guided_settings_know_what_outputs_count(tmp_path):
    rng = np.random.default_rng(4)
    weight, x = rng.standard_normal((128, 64)).astype(np.float32), rng.standard_normal((400, 64))
    outputs = np.where(np.arange(128) % 4, 1.0, 30.0)
    setting = Setting.parse("fit:rate=2,window=9,guided=True")
    assert setting.guided
    assert "guided" not in setting.options
    plain, weighed = (
        ((setting.apply(weight, 1, x.T @ x, rows)[0] - weight)[::4] ** 2).sum() for rows in (None, outputs)
    )
    assert weighed < 0.9 * plain
    assert np.array_equal(
        *(Setting.parse("gptq:bits=2").apply(weight, 1, x.T @ x, rows)[0] for rows in (None, outputs))
    )
    with pytest.raises(ValueError, match="guided is of fit, gptq"):
        Setting.parse("bcq:bits=2,guided=True")
    save_file(
        {"a.hessian": np.eye(2, dtype=np.float32), "a.rows": np.ones(1, np.uint32)},
        tmp_path / "x",
        {"xorpack_hessians": '{"layers": {"a.weight": "a"}}'},
    )
    assert not hessians_of(torch.nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "x", guided=False).outputs(
        "a.weight"
    )
    with pytest.raises(SystemExit, match="is not guided"):
        hessians_of(torch.nn.Linear(2, 2), torch.zeros(1, 2), tmp_path / "x", guided=True)


def test_gptq_without_correlations_rounds():
    weight = np.array([[-1.0, 0.0, 1.0, 2.0]], np.float32)
    decoded, n_bytes = gptq(weight, np.eye(4), bits=2)
    assert np.array_equal(decoded, weight)
    assert n_bytes == (2 * 4 + 18) / 8
