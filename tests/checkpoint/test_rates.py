"""Rates of tensors that match a pattern: which are encoded, at how many bits, and what is refused."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

import xorpack
from xorpack.cli.commands import cli
from xorpack.errors import ParameterError

RATES = {"embeddings.words": 3.0, "re:.*mlp": 1.5}


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    names = ("embeddings.words", "embeddings.positions", "layer.0.attention", "layer.0.mlp")
    tensors = {f"{name}.weight": rng.standard_normal((96, 160)).astype(np.float32) for name in names}
    save_file(tensors, tmp_path / "m")
    return tmp_path / "m"


def rates_of(path):
    with xorpack.open(path) as opened:
        return {name: 8 * tensor.code.nbytes / tensor.n_weights for name, tensor in opened.items()}


def test_each_tensor_gets_the_rate_of_its_pattern(source, tmp_path):
    report = xorpack.encode_checkpoint(source, tmp_path / "x", rate=2.0, rates=RATES)
    wanted = {"embeddings.words.weight": 3, "layer.0.attention.weight": 2, "layer.0.mlp.weight": 1.5}
    assert rates_of(tmp_path / "x") == pytest.approx(wanted, rel=0.05)
    assert set(report.left_out) == {"embeddings.positions.weight"}
    dry = xorpack.encode_checkpoint(source, tmp_path / "y", rate=2.0, rates=RATES, dry_run=True)
    for name, account in report.accounts.items():
        assert dry.accounts[name].section_bytes["code"] == pytest.approx(
            account.section_bytes["code"], rel=0.05
        )
    with xorpack.open(tmp_path / "x") as opened:
        assert opened.files[0].settings["rates"] == RATES
    arguments = ["encode", source, tmp_path / "z", "--rate", 2, "--rate-of", "embeddings.words=3"]
    done = CliRunner().invoke(cli, [*map(str, arguments), "--rate-of", "re:.*mlp=1.5"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "z").read_bytes() == (tmp_path / "x").read_bytes()


def test_the_first_pattern_that_matches_counts_and_exclude_still_excludes(source, tmp_path):
    rates = {"words": 3.0, "embeddings": 1.0, "layer": 1.0}
    xorpack.encode_checkpoint(source, tmp_path / "x", rate=2, rates=rates, exclude=["mlp", "positions"])
    wanted = {"embeddings.words.weight": 3, "layer.0.attention.weight": 1}
    assert rates_of(tmp_path / "x") == pytest.approx(wanted, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": {"embeddings": 3.0}}, "rates is of exceptions to a rate"),
        ({"rates": {"embeddings": 3.0}, "target_bits": 2.0}, "rates is of exceptions to a rate"),
        ({"rates": {"embeddings": 3.0}, "lossless": True}, "rates contradicts lossless"),
        ({"rates": {"embeddings": 7.0}, "rate": 2}, "rate"),
        ({"rates": {"embeddings": -1.0}, "rate": 2}, "rate of 'embeddings'"),
        ({"rates": {"heads": 3.0}, "rate": 2}, "pattern 'heads' matches none of the 4 tensors"),
        ({"rates": {3: 3.0}, "rate": 2}, "rates holds 3"),
        ({"rates": [("embeddings", 3.0)], "rate": 2}, "not a map of patterns to rates"),
    ],
)
def test_what_is_refused(options, message, source, tmp_path):
    with pytest.raises(ParameterError, match=re.escape(message)):
        xorpack.encode_checkpoint(source, tmp_path / "x", **options)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("given", ["embeddings", "=3", "embeddings=", "embeddings=x"])
def test_what_the_command_refuses(given, source, tmp_path):
    arguments = ["encode", str(source), str(tmp_path / "x"), "--rate", "2", "--rate-of", given]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 2
    assert json.dumps(given)[1:-1] in done.output
