"""Perplexity of encoded and of dense models, in reports."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner
from hf_models import BCQ, LOSSLESS, load
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel

import xorpack
from xorpack.cli.commands import cli
from xorpack.errors import ParameterError
from xorpack.hf.quality import measure

WORDS = [f"w{i}" for i in range(256)]


def text(path: Path, n: int) -> Path:
    path.write_text(" ".join(WORDS[i * i % 251] for i in range(n)), encoding="utf-8")
    return path


@pytest.fixture
def plain(tmp_path: Path, models: Any) -> Path:
    """A model with a tokenizer of a word for each token."""
    path = tmp_path / "plain"
    shutil.copytree(models.dense("Llama"), path)
    tokenizer = Tokenizer(words())
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0").save_pretrained(path)
    return path


def words() -> Any:
    return WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w0")


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def test_the_perplexity_is_that_of_the_tokens(plain: Path, tmp_path: Path) -> None:
    found = measure(plain, text(tmp_path / "t", 150))
    ids = torch.tensor([i * i % 251 for i in range(150)])[None]
    with torch.no_grad():
        loss = load("Llama", plain)(ids, labels=ids).loss.item()
    assert found.perplexity == pytest.approx(math.exp(loss), rel=1e-5)
    assert (found.n_tokens, found.dense) == (150, None)
    assert measure(plain, text(tmp_path / "t", 5000)).n_tokens == 4096


def test_reports(plain: Path, tmp_path: Path) -> None:
    news = text(tmp_path / "news.txt", 300)
    exact, lossy = tmp_path / "exact", tmp_path / "lossy"
    xorpack.encode_checkpoint(plain, exact, **LOSSLESS)
    xorpack.encode_checkpoint(plain, lossy, **BCQ)
    dense = xorpack.report_checkpoint(plain, quality=news).quality
    assert dense is not None
    found = json.loads(run(lossy, "--quality", news, "--against", plain, "--format", "json").output)[
        "quality"
    ]
    assert found["dense"] == dense.perplexity != found["perplexity"]
    same = xorpack.report_checkpoint(exact, quality=news, against=plain).quality
    assert same is not None
    assert same.perplexity == same.dense == dense.perplexity
    said = f"perplexity {dense.perplexity:.2f} on 300 tokens of {news}"
    for form in ("text", "markdown", "html"):
        done = run(exact, "--quality", news, "--format", form)
        assert done.exit_code == 0, done.output
        assert said.partition(" on ")[0] in done.output
    assert xorpack.report_checkpoint(plain).quality is None


def test_what_has_no_perplexity(plain: Path, tmp_path: Path, models: Any) -> None:
    news = text(tmp_path / "news.txt", 300)
    cases = [
        (plain, text(tmp_path / "short", 100), "100 tokens, and at least 128 are needed"),
        (plain, tmp_path / "missing", "cannot be read as UTF-8 text"),
        (models.dense("Llama"), news, "has no tokenizer that transformers loads"),
        (models.dense("Bert"), news, "BertForMaskedLM, which is no causal language model"),
        (
            plain / "model.safetensors",
            news,
            "not a directory: quality is measured of a model with its tokenizer",
        ),
    ]
    (tmp_path / "latin").write_bytes("naïve".encode("latin-1"))
    for path, given, message in [*cases, (plain, tmp_path / "latin", "cannot be read as UTF-8 text")]:
        with pytest.raises(ParameterError, match=message) as caught:
            xorpack.report_checkpoint(path, quality=given)
        assert "\n" not in str(caught.value)
    done = run(plain, "--quality", tmp_path / "short")
    assert (done.exit_code, isinstance(done.exception, SystemExit | ParameterError)) != (0, False)
