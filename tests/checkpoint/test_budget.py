"""Bytes over tensors: never more than asked for, with the least error that they allow."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import xorpack
from xorpack.checkpoint.budget import GAUSSIAN, RATES, Curve, Quantizer, choose_quantizers
from xorpack.cli.commands import cli
from xorpack.errors import ParameterError


def curve(n: int, sigma: float, bend: float = 2.0) -> Curve:
    sizes, errors = RATES * n / 8 + 100, n * sigma**2 * 2 ** (-bend * RATES)
    return Curve.best((Quantizer(rate=r), s, e) for r, s, e in zip(RATES, sizes, errors, strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_no_choice_of_the_same_bytes_has_less_error(seed):
    """Against every choice of three tensors, on curves that bend as measured ones do."""
    rng = np.random.default_rng(seed)
    curves = {
        str(i): curve(int(rng.integers(500, 4000)), float(rng.uniform(0.1, 3)), rng.uniform(1.8, 2))
        for i in range(3)
    }
    n_bytes = sum(c.n_bytes[15] for c in curves.values()) * rng.uniform(0.7, 1.5)
    found = choose_quantizers(curves, n_bytes)

    def total(rates: Any, what: str) -> float:
        at = [int(np.flatnonzero(rate == RATES)[0]) for rate in rates]
        return float(sum(getattr(c, what)[i] for c, i in zip(curves.values(), at, strict=True)))

    assert total([chosen.rate for chosen in found.values()], "n_bytes") <= n_bytes
    best = min(
        total(rates, "error")
        for rates in itertools.product(RATES, repeat=3)
        if total(rates, "n_bytes") <= n_bytes
    )
    assert total([chosen.rate for chosen in found.values()], "error") <= 1.05 * best


@pytest.mark.parametrize("at", [2, 5, 7, 9])
def test_gaussian_weights_are_quantized_as_the_table_says(at):
    rate, log = GAUSSIAN[0][at], GAUSSIAN[1][at]
    weight = np.random.default_rng(5).standard_normal((1024, 32), dtype=np.float32)
    error = weight - xorpack.quantize(weight, method="trellis", rate=rate).dequantize()
    assert np.log2((error**2).sum() / (weight**2).sum()) == pytest.approx(log, abs=0.1)


def test_a_budget_below_the_least_possible_says_the_least():
    with pytest.raises(ParameterError, match=r"100 bytes .* fewer than the least possible, 256 "):
        choose_quantizers({"a": curve(10_000, 1.0)}, 100)
    assert choose_quantizers({"a": curve(10_000, 1.0)}, 1e9) == {"a": Quantizer(rate=6.0)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("budget") / "m.safetensors"
    shapes = {"loud.weight": (256, 512), "soft.weight": (256, 512), "norm.weight": (512,)}
    tensors = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    tensors["soft.weight"] *= np.float32(0.25)
    save_file(tensors, path)
    return path


def test_target_bits_count_everything(model, tmp_path):
    outputs = []
    for jobs in (1, 2):
        out = tmp_path / f"{jobs}.safetensors"
        report = xorpack.encode_checkpoint(model, out, target_bits=2.0, jobs=jobs)
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1]
    file = xorpack.open(out).files[0]
    encoded = sum(stored.n_bytes for name, stored in file.stored.items() if name not in file.carried)
    assert 1.85 < 8 * encoded / report.total.n_weights <= 2.0  # records too
    loud, soft = (xorpack.open(out)[name].planes.network.rate for name in ("loud.weight", "soft.weight"))
    assert loud == pytest.approx(soft + 2, abs=0.5)  # log2 of the ratio of their sizes


def test_the_least_error_is_less_than_that_of_one_rate(model, tmp_path):
    weights = {name: np.asarray(stored.array()) for name, stored in _tensors(model).items()}
    errors = {}
    for name, how in {"chosen": {"target_bits": 2.1}, "one": {"rate": 2.0}}.items():
        xorpack.encode_checkpoint(model, tmp_path / name, **how)
        with xorpack.open(tmp_path / name) as found:
            errors[name] = sum(
                float(((xorpack.decode(found[key]).dequantize() - weights[key]) ** 2).sum()) for key in found
            )
    assert errors["chosen"] < 0.75 * errors["one"]


def _tensors(path: Path) -> dict[str, Any]:
    from xorpack.files import safetensors_file

    return dict(safetensors_file.read(path).tensors)


def test_max_size_is_of_the_files(model, tmp_path):
    out = tmp_path / "o.safetensors"
    result = CliRunner().invoke(cli, ["encode", str(model), str(out), "--max-size", "80kB"])
    assert result.exit_code == 0, result.output
    assert 70_000 < out.stat().st_size <= 80_000


def test_what_is_beaten_in_both_is_no_candidate():
    found = Curve.best(
        [(Quantizer(bits=1), 10, 5.0), (Quantizer(rate=1), 11, 6.0), (Quantizer(bits=2), 20, 1.0)]
    )
    assert found.quantizers == (Quantizer(bits=1), Quantizer(bits=2))


def test_what_magnitude_pruning_leaves_takes_binary_codes(model, tmp_path):
    """At a sparsity of .9 the kept weights are two narrow heaps."""
    xorpack.encode_checkpoint(model, tmp_path / "o.safetensors", target_bits=0.85, sparsity=0.9)
    with xorpack.open(tmp_path / "o.safetensors") as found:
        assert found["loud.weight"].kind == "bcq"


def test_a_pruned_tensor_keeps_its_zeros(model, tmp_path):
    xorpack.encode_checkpoint(model, tmp_path / "o.safetensors", target_bits=1.5, sparsity=0.75)
    with xorpack.open(tmp_path / "o.safetensors") as found:
        for tensor in found.values():
            assert tensor.sparsity == pytest.approx(0.75)
            assert (xorpack.decode(tensor).dequantize() == 0).mean() >= 0.75


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-bits", "2", "--rate", "2"], "rate and target_bits both say how large"),
        (["--target-bits", "2", "--max-size", "1MB"], "target_bits and max_size both say"),
        (
            ["--target-bits", "2", "--bits", "2"],
            "bits is of binary codes, and target_bits asks for a trellis",
        ),
        (["--target-bits", "2", "--lossless"], "target_bits contradicts lossless"),
        (["--target-bits", "-1"], "target_bits = -1.0 is not positive"),
        (["--target-bits", "0.01"], "fewer than the least possible"),
        (["--max-size", "3kB"], "fewer than the least possible"),
        (["--max-size", "much"], "'much' is not a size such as 40MB"),
        (["--rate", "2.01"], "the nearest is"),
        (["--rate", "9"], "outside"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(model, tmp_path, options, message):
    result = CliRunner().invoke(cli, ["encode", str(model), str(tmp_path / "o"), *options])
    assert result.exit_code != 0
    assert message in f"{result.output} {result.exception}"
    assert not list(tmp_path.iterdir())
