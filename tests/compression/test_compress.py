"""``compress`` of a tiny Llama: one run for what its commands do one by one, and what is wrong said at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from click.testing import CliRunner, Result  # noqa: E402
from small_llama import written  # noqa: E402

import xorpack  # noqa: E402
from xorpack.calibration.run import calibrate  # noqa: E402
from xorpack.checkpoint import shards  # noqa: E402
from xorpack.cli.commands import cli  # noqa: E402
from xorpack.compression import compress_checkpoint  # noqa: E402
from xorpack.compression.phases import Phases  # noqa: E402
from xorpack.errors import DataError, DestinationError, FormatError, ParameterError, SourceError  # noqa: E402

SMALL: dict[str, Any] = {"length": 64}


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(cli, ["compress", *map(str, arguments)])


def test_one_run_is_what_the_commands_are_one_by_one(model: Path, text: Path, tmp_path: Path) -> None:
    stats, out = tmp_path / "stats", tmp_path / "out"
    done = run(model, out, "--calibration", text, "--stats", stats, "--target-bits", 4, "--length", 64)
    assert done.exit_code == 0, done.output
    calibrate(model, text, tmp_path / "alone", sequences=1750 // 64, length=64)
    assert stats.read_bytes() == (tmp_path / "alone").read_bytes()
    xorpack.encode_checkpoint(model, tmp_path / "second", hessian=stats, target_bits=4.0)
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "second/model.safetensors").read_bytes()
    for said in (
        "perplexity",
        "MB",
        "calibrate",
        "choose rates",
        "fit and encode",
        "verify",
        "minutes",
        "memory",
    ):
        assert said in done.output
    assert f"272 tokens of {text}, behind those of the calibration" in done.output
    assert "14 of 14 tensors; squared error of their outputs" in done.output


def test_guided_goes_on_to_the_calibration(model: Path, text: Path, tmp_path: Path) -> None:
    stats, out = tmp_path / "stats", tmp_path / "out"
    done = run(model, out, "--calibration", text, "--stats", stats, "--guided", "--rate", 2, "--length", 64)
    assert done.exit_code == 0, done.output
    calibrate(model, text, tmp_path / "alone", sequences=1750 // 64, length=64, guided=True)
    assert stats.read_bytes() == (tmp_path / "alone").read_bytes()


def test_statistics_that_are_not_guided_are_no_guided_ones(model: Path, text: Path, tmp_path: Path) -> None:
    stats = tmp_path / "stats"
    calibrate(model, text, stats, sequences=2, length=64)
    with pytest.raises(ParameterError, match="stats is not guided: calibrate anew"):
        compress_checkpoint(model, tmp_path / "out", stats=stats, rate=2.0, guided=True)


def test_a_second_run_begins_where_the_first_ended(model: Path, text: Path, tmp_path: Path) -> None:
    """Statistics are kept though the run fails behind them, and used again."""
    stats = tmp_path / "stats"
    with pytest.raises(ParameterError, match="tries to fail"):
        compress_checkpoint(
            model,
            tmp_path / "out",
            calibration=text,
            stats=stats,
            rate=2.0,
            show=_fails("fit and encode"),
            **SMALL,
        )
    assert stats.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stats"]
    report = compress_checkpoint(model, tmp_path / "out", calibration=text, stats=stats, rate=2.0)
    assert report.calibration is None
    assert "calibrate" not in [phase.name for phase in report.phases]
    assert report.text is not None
    assert report.text.startswith("272 tokens")
    assert report.dense is not None
    assert report.perplexity is not None


def _fails(name: str) -> Any:
    def show(phase: str) -> Any:
        if phase == name:
            raise ParameterError("tries to fail")
        return Phases().show(phase)

    return show


@pytest.mark.parametrize(("phase", "after"), [("calibrate", 30), ("fit and encode", 5)])
def test_a_run_that_is_stopped_is_gone_on_with(
    model: Path, text: Path, tmp_path: Path, monkeypatch: Any, phase: str, after: int
) -> None:
    """In the middle of a phase; what it had done is not done again, and the bytes are those of one run."""
    stats, out, told = tmp_path / "stats", tmp_path / "out", dict[str, list[int]]()
    asked: dict[str, Any] = {"calibration": text, "target_bits": 4.0, "length": 64, "memory": 40_000}

    def show(name: str) -> Any:
        @contextmanager
        def counted() -> Iterator[Any]:
            yield lambda *args: counts.append(args[1])

        counts = told[name] = []
        return counted()

    def stopped(name: str) -> Any:
        @contextmanager
        def counted() -> Iterator[Any]:
            yield lambda *_: counts.append(1) or len(counts) < after or interrupt()

        counts: list[int] = []
        return counted() if name == phase else Phases().show(name)

    with pytest.raises(KeyboardInterrupt, match="is kept in"):
        compress_checkpoint(model, out, stats=stats, resume=True, show=stopped, **asked)
    assert not out.exists()
    assert stats.exists() == (phase != "calibrate")
    encode, encoded = shards.encode_tensor, list[str]()
    monkeypatch.setattr(shards, "encode_tensor", lambda task: encoded.append(task.name) or encode(task))
    compress_checkpoint(model, out, stats=stats, resume=True, show=show, **asked)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "stats"]
    if phase == "calibrate":
        assert max(told["calibrate"]) > 1  # sums of a pass at once
    else:
        assert len(encoded) == 14 - after
    compress_checkpoint(model, tmp_path / "once", stats=tmp_path / "other", **asked)
    assert stats.read_bytes() == (tmp_path / "other").read_bytes()
    assert (out / "model.safetensors").read_bytes() == (tmp_path / "once/model.safetensors").read_bytes()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_nothing_is_left_of_statistics_that_are_not_asked_for(
    model: Path, text: Path, tmp_path: Path
) -> None:
    report = compress_checkpoint(model, tmp_path / "out", calibration=text, rate=2.0, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert report.calibration is not None
    assert [phase.name for phase in report.phases] == [
        "measure the dense model", "calibrate", "fit and encode", "verify", "measure the compressed model",
    ]  # fmt: skip
    assert all(phase.n_bytes is None or phase.n_bytes > 1 << 20 for phase in report.phases)


def test_the_smallest_model_of_a_perplexity(model: Path, text: Path, tmp_path: Path) -> None:
    """A tiny random model: its perplexity hardly says anything, so all that holds is what was asked for."""
    out = tmp_path / "out"
    done = run(model, out, "--calibration", text, "--max-perplexity-increase", "2%", "--length", 64)
    assert done.exit_code == 0, done.output
    assert "at most 4 tries, each a fit of 0.1 M weights" in done.output
    assert "bits per weight: perplexity" in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    xorpack.verify_checkpoint(out)
    dense, found = (measured(path, text) for path in (model, out))
    assert found < 1.03 * dense


def measured(path: Path, text: Path) -> float:
    found = xorpack.report_checkpoint(path, quality=text).quality
    assert found is not None
    return found.perplexity


def test_a_short_text_is_used_for_what_it_gives(model: Path, tmp_path: Path) -> None:
    report = compress_checkpoint(model, tmp_path / "out", calibration=written(tmp_path / "t", 300), rate=2.0)
    assert report.calibration is not None
    assert (report.calibration.n_sequences, report.calibration.length) == (1, 172)
    assert report.text is not None
    assert report.text.startswith("128 tokens")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rate": None}, ParameterError, "give target_bits, max_size, rate or max"),
        ({"target_bits": 2.0}, ParameterError, "rate and target_bits both"),
        ({"max_perplexity_increase": 0.1}, ParameterError, "instead of target_bits, max_size and rate"),
        ({"max_perplexity_increase": -0.1}, ParameterError, "max_perplexity_increase = -0.1 is not positive"),
        ({"rate": None, "target_bits": 0.1}, ParameterError, "fewer than the least possible"),
        ({"resume": True}, ParameterError, "resume needs a file that statistics are kept in: give stats"),
        ({"sequential": True, "calibration": None}, ParameterError, "runs the model over a text once more"),
        ({"guided": 1}, ParameterError, "guided = 1 is not True or False"),
        ({"rate": None, "max_size": 1000}, ParameterError, "least"),
        ({"calibration": None}, ParameterError, "no statistics are: give calibration"),
        ({"calibration": "nowhere"}, ParameterError, "calibration nowhere: no such file"),
        ({"calibration": "few"}, ParameterError, "255 tokens; 131072 are wanted, and 256 are the least"),
        ({"calibration": "binary"}, FormatError, "not UTF-8 at byte 3"),
        ({"quality": "few words"}, ParameterError, "cannot be read"),
        ({"stats": "few"}, FormatError, "few"),
        ({"src": "bare"}, SourceError, "no tokenizer"),
        ({"src": "file"}, FormatError, "one file is no model"),
        ({"dst": "few"}, DestinationError, "exists"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(
    model: Path, text: Path, tmp_path: Path, monkeypatch: Any, options: Any, error: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "few", 255)
    (tmp_path / "binary").write_bytes(b"w1 \xff")
    shutil.copytree(model, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    before = sorted(tmp_path.iterdir())
    given = {"calibration": text, "rate": 2.0, "src": model, "dst": tmp_path / "out", **options}
    given["src"] = model / "model.safetensors" if given["src"] == "file" else given["src"]

    def never(phase: str) -> Any:
        raise AssertionError(phase)

    with pytest.raises(error, match=message) as caught:
        compress_checkpoint(**given, show=never)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == before


def test_a_model_that_predicts_nothing_is_refused_before_it_is_calibrated(
    model: Path, text: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][3] = np.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match="broken: its perplexity is nan before anything is done to it"):
        compress_checkpoint(broken, tmp_path / "out", calibration=text, rate=2.0, show=_fails("calibrate"))
    assert not (tmp_path / "out").exists()


def test_statistics_of_another_model_are_refused(model: Path, text: Path, tmp_path: Path) -> None:
    other, stats = tmp_path / "other", tmp_path / "stats"
    shutil.copytree(model, other)
    config = transformers.AutoConfig.from_pretrained(model, hidden_size=32)
    transformers.LlamaForCausalLM(config).save_pretrained(other)
    calibrate(model, text, stats, sequences=2, length=64)
    with pytest.raises(ParameterError, match="has 32 inputs, and its Hessian is of 64"):
        compress_checkpoint(other, tmp_path / "out", stats=stats, rate=2.0)
