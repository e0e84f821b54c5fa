"""``python -m studies`` as a person runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

PROGRAM = """
import sys

sys.path.append({root!r})  # last, so that xorpack is still the one that is installed
from studies.__main__ import main, study

main(study)
"""
STUDIES = (sys.executable, "-c", PROGRAM.format(root=str(Path(__file__).parents[2])))


def run(*arguments, **options):
    return subprocess.run(
        [*STUDIES, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False, **options
    )


def test_list():
    done = run("--list")
    assert done.returncode == 0
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["networks", "masks", "blocks", "planes", "alexnet", "windows", "distortion"]


def test_a_study(tmp_path):
    arguments = ["alexnet", "--quick", "--seeds", 1, "--cache", tmp_path / "c", "--jobs", 1]
    first = run(*arguments, "--output", tmp_path / "o")
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert max(map(len, first.stdout.splitlines())) <= max(80, len(str(tmp_path)) + 90)
    assert f"2 cells measured, 0 from {tmp_path / 'c'}" in first.stdout
    files = ["alexnet.png", "alexnet.svg", "study.json", "study.md"]
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == files
    second = run(*arguments)
    assert f"0 cells measured, 2 from {tmp_path / 'c'}" in second.stdout
    tables = [done.stdout.split("bits per weight")[1].split("cells")[0][:-4] for done in (first, second)]
    assert tables[0] == tables[1]
    taken = run(*arguments, "--output", tmp_path / "o")
    assert taken.returncode == 1
    assert "holds study.json; remove it or ask to overwrite it" in taken.stderr
    assert run(*arguments, "--output", tmp_path / "o", "--overwrite").returncode == 0


def test_the_cache_is_the_users(tmp_path):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "home")}
    done = run("alexnet", "--quick", "--seeds", 1, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "home" / "xorpack" / "study").rglob("*.json"))) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


WRONG = [
    (
        ["bogus"],
        2,
        "table 'bogus' is not one of networks, masks, blocks, planes, alexnet, windows, distortion",
    ),
    (["masks", "--model", "nothing"], 1, "nothing: no such file or directory"),
    (["masks", "--model", "T"], 1, "not a safetensors file"),
    (["masks", "--output", "T"], 1, "output T is not a directory"),
    (["masks", "--output", "no/where"], 1, "is not a directory"),
    (["masks", "--output", "/proc/study"], 1, "output /proc/study cannot be made"),
    (["masks", "--cache", "T"], 1, "cache T cannot be made"),
    (["masks", "--cache", "T/c"], 1, "cannot be made"),
    (["masks", "--overwrite"], 2, "--overwrite needs --output"),
    (["masks", "--seeds", "0"], 2, "0 is not in the range"),
    (["masks", "--jobs", "0"], 2, "0 is not in the range"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG)
def test_what_is_wrong_is_said_in_one_line(arguments, code, message, tmp_path):
    (tmp_path / "T").write_text("just some text, long enough")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "home")}
    done = run(*arguments, cwd=tmp_path, env=environment)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o500)
    for option in ("--output", "--cache"):
        done = run("alexnet", "--quick", option, tmp_path / "shut", cwd=tmp_path)
        assert done.returncode == 1
        assert "no permission to write" in done.stderr


def test_without_matplotlib_the_rest_is_written(tmp_path):
    hidden = "import sys\n\nsys.modules['matplotlib'] = None\n" + STUDIES[2]
    options = ["alexnet", "--quick", "--seeds", "1", "--cache", "c", "--output", "o"]
    done = subprocess.run(
        [sys.executable, "-c", hidden, *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "no figures: matplotlib is not installed" in done.stdout
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["study.json", "study.md"]
    assert "![" not in (tmp_path / "o" / "study.md").read_text()


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_keeps_what_was_measured(jobs, tmp_path):
    command = [*STUDIES, "networks", "--jobs", str(jobs)]
    command += ["--cache", tmp_path / "c", "--output", tmp_path / "o"]
    # A shell's background job ignores interrupts, and so would all that it starts.
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("*.json"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"interrupted; what was measured is in {tmp_path / 'c'}, run it again to go on" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "o").exists()
    assert len(list((tmp_path / "c").rglob("*.json"))) >= 2
    assert not list((tmp_path / "c").rglob(".*"))


def test_a_study_does_not_write_into_its_model(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    save_file({"l.weight": np.ones((64, 64), np.float32)}, model / "model.safetensors")
    before = (model / "model.safetensors").read_bytes()
    for output in (model, model / "new"):
        done = run("masks", "--model", model, "--output", output)
        assert done.returncode == 2
        assert "lies in the source" in done.stderr
    assert [path.name for path in model.iterdir()] == ["model.safetensors"]
    assert (model / "model.safetensors").read_bytes() == before
