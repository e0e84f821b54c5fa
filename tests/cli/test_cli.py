"""The command line as a person runs it: what it prints, its exit codes, what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack import cli
from xorpack.encoded import SECTIONS
from xorpack.files import renaming


def run(*arguments, **options):
    command = [sys.executable, "-m", "xorpack", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = {f"layers.{i}.mlp.weight": pruned((128, 256), 0.0, seed=i) for i in range(3)}
    save_file({**tensors, "layers.0.mlp.bias": pruned((128,), 0.0)}, path, metadata={"format": "pt"})
    return path


def test_the_main_job(source, tmp_path):
    encoded, decoded = tmp_path / "x.safetensors", tmp_path / "y.safetensors"
    done = run("encode", source, encoded, "--bits", 2, "--sparsity", 0.9, "--jobs", 2)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"model size \d+\.\d\d MiB -> \d+\.\d\d MiB \(\d+\.\d\d bits per weight\)", lines[-1])
    for column in (
        "tensor",
        "sparsity",
        "E %",
        "code",
        "corr",
        "mask",
        "scales",
        "total",
        "overhead",
        "seconds",
    ):
        assert column in lines[1]
    assert [line.split()[0] for line in lines[2:5]] == [f"layers.{i}.mlp.weight" for i in range(3)]
    assert lines[5].startswith("total of 3")

    assert run("verify", encoded).returncode == 0
    checked = run("verify", encoded, "--against", source)
    assert checked.returncode == 0
    assert "1 tensors identical, 3 quantized" in checked.stdout
    done = run("decode", encoded, decoded)
    assert done.returncode == 0
    assert "every checksum holds" in done.stdout
    exact = run("verify", encoded, "--against", decoded)
    assert "4 tensors identical, 0 quantized" in exact.stdout


def test_info(source, tmp_path):
    encoded = tmp_path / "x.safetensors"
    assert run("encode", source, encoded, "--lossless").returncode == 0
    text = run("info", encoded)
    assert text.returncode == 0
    assert "payload" in text.stdout
    info = json.loads(run("info", encoded, "--json").stdout)
    assert info["n_weights"] == 3 * 128 * 256
    assert info["bytes"]["total"] + info["carried"]["bytes"] == encoded.stat().st_size == info["file_bytes"]
    parts = info["bits_per_weight"]
    assert set(parts) == {"total", *SECTIONS, "metadata"}
    assert np.isclose(parts["total"], sum(value for name, value in parts.items() if name != "total"))
    assert {"payload", "mask", "mask_iid"} == set(info["bound"])
    assert {"payload", "mask", "total"} == set(info["overhead"])
    assert info["efficiency"] == 1.0
    for tensor in info["tensors"].values():
        for key in ("n_weights", "n_kept", "efficiency", "bits_per_weight", "bound", "overhead"):
            assert key in tensor


WRONG = [
    (["encode", "nothing.safetensors", "x"], 1, "nothing.safetensors: no such file"),
    (["encode", "M", "M"], 1, "exists"),
    (["encode", "M", "x", "--sparsity", "1.5"], 2, "sparsity = 1.5 is outside [0, 1)"),
    (["encode", "M", "x", "--bits", "9"], 2, "9 is not in the range 1<=x<=8"),
    (["encode", "M", "x", "--bits", "2", "--lossless"], 2, "bits contradicts lossless"),
    (["encode", "M", "x", "--include", "typo"], 2, "pattern 'typo' matches none of the 4 tensors"),
    (["encode", "M", "x", "--include", "re:("], 2, "not a regular expression"),
    (["encode", "M", "no/where/x"], 1, "is not a directory"),
    (["decode", "M", "x"], 1, "not one that xorpack encoded"),
    (["verify", "M"], 1, "not one that xorpack encoded"),
    (["info", "T"], 1, "not a safetensors file"),
    (["info"], 2, "Missing argument"),
    (["encode", "M", "M", "--overwrite"], 2, "lies in the source"),
    (["encode", "M", ".", "--overwrite"], 2, "holds"),
    (["report", "M", "--output", "M", "--overwrite"], 2, "lies in the source"),
    (["info", "T", "--max-weights", "none"], 2, "not a number of weights"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), WRONG)
def test_what_is_wrong_is_said_in_one_line(arguments, code, message, source, tmp_path):
    (tmp_path / "T").write_text("just some text, long enough")
    before = sorted(p.name for p in tmp_path.iterdir())
    names = {"M": source, "T": tmp_path / "T"}
    done = run(*(names.get(a, a) for a in arguments), cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_a_flipped_bit_is_found(source, tmp_path):
    encoded = tmp_path / "x.safetensors"
    xorpack.encode_checkpoint(source, encoded)
    data = bytearray(encoded.read_bytes())
    data[8 + int.from_bytes(data[:8], "little")] ^= 4  # of the first code
    encoded.write_bytes(data)
    done = run("verify", encoded)
    assert done.returncode == 1
    assert "do not match their checksum" in done.stderr
    done = run("decode", encoded, tmp_path / "y")
    assert done.returncode == 1
    assert not (tmp_path / "y").exists()


def test_a_full_disk_leaves_nothing(source, tmp_path):
    def small_files():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = run("encode", source, tmp_path / "x", "--lossless", preexec_fn=small_files, env=environment)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def interrupted(number, tmp_path, disposition):
    """An encoding that gets a signal when something stands in its workspace; what became of it, what it printed."""
    source = tmp_path / "m.safetensors"
    save_file({f"l{i}.weight": pruned((1024, 1024), 0.0, seed=i) for i in range(6)}, source)
    command = ["encode", source, tmp_path / "x", "--sparsity", "0.5", "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xorpack", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            number, disposition
        ),  # whatever the tests themselves were started with
    )
    deadline = time.monotonic() + 120
    while len(list(tmp_path.rglob("*"))) <= 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_leaves_nothing(number, tmp_path):
    code, errors = interrupted(number, tmp_path, signal.SIG_DFL)
    assert code == 130
    assert errors.strip() == "xorpack: interrupted; nothing was written"
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As of a command that nohup started."""
    code, errors = interrupted(signal.SIGHUP, tmp_path, signal.SIG_IGN)
    assert (code, errors) == (0, "")
    assert len(xorpack.open(tmp_path / "x")) == 6


def test_an_interrupt_after_the_last_rename_says_what_stands(source, tmp_path, monkeypatch, capsys):
    rename = renaming.rename_new

    def late(temporary, path):
        rename(temporary, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(renaming, "rename_new", late)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["xorpack", "encode", str(source), str(tmp_path / "x"), "--lossless"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err.strip() == f"xorpack: interrupted; {tmp_path / 'x'} had been written"
    assert xorpack.verify_checkpoint(tmp_path / "x").n_tensors == 3


@pytest.mark.parametrize("codec", ["bitmap", "cascade", "block", "bmf"])
def test_every_mask_codec_can_be_asked_for(source, tmp_path, codec):
    encoded = tmp_path / "x.safetensors"
    done = run("encode", source, encoded, "--bits", 1, "--sparsity", 0.9, "--mask", codec, "--jobs", 1)
    assert done.returncode == 0, done.stderr
    shown = run("info", encoded, "--speed")
    assert shown.returncode == 0, shown.stderr
    assert f"({codec} x 3)" in shown.stdout
    assert re.search(r"masks \d+\.\d\d G weights/s, masks and planes \d+\.\d\d G weights/s", shown.stdout)
    found = json.loads(run("info", encoded, "--speed", "--json").stdout)
    assert found["seconds"]["mask_and_planes"] > 0
    assert found["overhead"]["mask"] > 0
    assert run("verify", encoded, "--against", source).returncode == 0


def test_a_budget_that_cannot_be_met_says_the_least(source, tmp_path):
    for command, option in (("prune", "--method"), ("encode", "--mask")):
        done = run(
            command, source, tmp_path / "x.safetensors", option, "bmf", "--sparsity", 0.9, "--mask-bits", 0.01
        )
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        assert "mlp.weight" in line
        assert "0.01 mask bits per weight are too few for a 128 x 256 matrix" in line
        assert "0.01172 at the least" in line
    assert [path.name for path in tmp_path.iterdir()] == [source.name]
