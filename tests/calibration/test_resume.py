"""A calibration that was killed is gone on with: the same bytes in the end, nothing added twice, nothing foreign."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_llama import make_model, written

from xorpack.errors import ParameterError, SourceError
from xorpack.files import atomic

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from xorpack.calibration import sums  # noqa: E402
from xorpack.calibration.run import calibrate  # noqa: E402
from xorpack.cli.commands import cli  # noqa: E402

SMALL: dict[str, Any] = {"sequences": 4, "length": 64, "memory": 40_000}
"""Several passes over four sequences, and one of gradients."""

KILLED = """
import os, signal, sys
from xorpack.calibration import sums
from xorpack.calibration.run import calibrate
sums.SECONDS = 0
told = []
def progress(name, done, total):
    told.append(name)
    if len(told) == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
calibrate(*sys.argv[1:4], sequences=4, length=64, memory=40_000, guided=sys.argv[5] == "guided", progress=progress)
"""


class StoppedError(Exception):
    """What stops a run in the middle."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "llama")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("text") / "text.txt", 400)


@pytest.fixture(scope="module")
def whole(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """What runs that nothing stops write."""
    path = tmp_path_factory.mktemp("whole")
    for guided in (False, True):
        calibrate(model, text, path / str(guided), guided=guided, **SMALL)
    return {guided: (path / str(guided)).read_bytes() for guided in (False, True)}


def stop(model: Path, text: Path, target: Path, after: int, **options: Any) -> Path:
    """Begin a run, stop it when so many sequences are done, and give its workspace."""
    done = []

    def progress(*_: object) -> None:
        done.append(1)
        if len(done) == after:
            raise StoppedError

    with pytest.raises(StoppedError):
        calibrate(model, text, target, resume=True, progress=progress, **{**SMALL, **options})
    (work,) = target.parent.glob(f".{target.name}.*{atomic.WORK}")
    return work


@pytest.mark.parametrize("guided", [False, True])
def test_a_killed_run_ends_with_the_same_bytes(
    model: Path, text: Path, whole: dict[bool, bytes], tmp_path: Path, guided: bool
) -> None:
    """In the second pass; with gradients of their own before, in the first."""
    target, after = tmp_path / "stats", 7
    kind = "guided" if guided else "plain"
    command = [sys.executable, "-c", KILLED, str(model), str(text), str(target), str(after), kind]
    assert subprocess.run(command, check=False, timeout=300).returncode == -signal.SIGKILL
    assert not target.exists()
    told: list[int] = []
    calibrate(
        model, text, target, resume=True, guided=guided, **SMALL,
        progress=lambda name, n, total: told.append(n),
    )  # fmt: skip
    assert target.read_bytes() == whole[guided]
    assert [path.name for path in tmp_path.iterdir()] == ["stats"]
    assert max(told) > 1  # what was there is told at once
    calibrate(
        model, text, tmp_path / "other", guided=guided, progress=lambda _, n, total: told.append(-n), **SMALL
    )
    assert sum(told) == 0


def test_what_is_finished_is_not_run_again(
    model: Path, text: Path, whole: dict[bool, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    runs, totals, forward = [], [], LlamaForCausalLM.forward

    def counted(self: Any, *args: Any, **options: Any) -> Any:
        runs.append(1)
        return forward(self, *args, **options)

    work = stop(
        model, text, tmp_path / "stats", 4 + 6
    )  # what is under way is not kept: minutes have not passed
    assert {path.stem for path in work.glob("*.safetensors")} == {"gradients", "part-0"}
    monkeypatch.setattr(LlamaForCausalLM, "forward", counted)
    calibrate(
        model, text, tmp_path / "stats", resume=True, progress=lambda *told: totals.append(told[2]), **SMALL
    )
    assert (tmp_path / "stats").read_bytes() == whole[False]
    assert len(runs) == totals[-1] - 4 - 4 + 1  # one looks for the inputs


def test_without_resume_the_sums_are_made_anew(
    model: Path, text: Path, whole: dict[bool, bytes], tmp_path: Path
) -> None:
    stop(model, text, tmp_path / "stats", 6)
    calibrate(model, text, tmp_path / "stats", **SMALL)
    assert (tmp_path / "stats").read_bytes() == whole[False]
    assert [path.name for path in tmp_path.iterdir()] == ["stats"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"sequences": 3}, ParameterError, "was begun with sequences 4, not 3; finish it as it was begun"),
        ({"memory": 41_000}, ParameterError, "was begun with memory 40000, not 41000"),
        ({"guided": True}, ParameterError, "was begun with guided False, not True"),
        ("text", SourceError, "text text.txt changed since .* was begun: another digest of its tokens"),
        ("model", SourceError, "model.safetensors changed since .* was begun"),
        ("config", SourceError, "config.json changed since .* was begun: another time of change"),
    ],
)
def test_what_is_of_another_run_is_refused(
    model: Path, text: Path, tmp_path: Path, change: Any, error: Any, message: str
) -> None:
    other, words = tmp_path / "model", tmp_path / "text.txt"
    shutil.copytree(model, other)
    shutil.copy(text, words)
    work = stop(other, words, tmp_path / "stats", 6)
    if change == "text":
        words.write_text("w7 " + words.read_text())
    elif change == "model":
        os.utime(other / "model.safetensors", ns=(0, 0))
    elif change == "config":
        os.utime(other / "config.json", ns=(0, 0))
    given = {**SMALL, **(change if isinstance(change, dict) else {})}
    with pytest.raises(error, match=message) as caught:
        calibrate(other, words, tmp_path / "stats", resume=True, **given)
    assert "\n" not in str(caught.value)
    assert work.exists()
    assert not (tmp_path / "stats").exists()


def test_the_command_resumes(
    model: Path, text: Path, whole: dict[bool, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "SECONDS", 0.0)
    stop(model, text, tmp_path / "stats", 6)
    arguments = ["calibrate", model, text, "-o", tmp_path / "stats", "--resume"]
    arguments += ["--sequences", 4, "--length", 64, "--memory", 40_000]
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "stats").read_bytes() == whole[False]
