"""Arguments of the wrong type or size: an error that names the argument, from the API and on the command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file
from samples import bcq, pruned

import xorpack
from xorpack.analysis.report import render
from xorpack.checkpoint import Settings
from xorpack.cli.commands import cli
from xorpack.decoders import cpu
from xorpack.errors import ParameterError

ODD: tuple[Any, ...] = (
    None,
    True,
    2.5,
    2.0,
    "x",
    "2",
    [1],
    -1,
    10**20,
    float("nan"),
    float("inf"),
    np.float32(2),
    b"2",
)
WEIGHT = pruned((8, 64), 0.0)
ENCODED = xorpack.encode(WEIGHT)


def odd(*fine: Any) -> tuple[Any, ...]:
    return tuple(value for value in ODD if not any(value is f or value == f for f in fine if f is not True))


CALLS = {
    "bits": (lambda v: xorpack.quantize(WEIGHT, bits=v), odd(None, 2.0)),
    "group_size": (lambda v: xorpack.quantize(WEIGHT, group_size=v), odd(None)),
    "sparsity": (lambda v: xorpack.quantize(WEIGHT, sparsity=v), odd(None)),
    "method": (lambda v: xorpack.quantize(WEIGHT, method=v), ODD),
    "scale_dtype": (lambda v: xorpack.quantize(WEIGHT, scale_dtype=v), ODD),
    "n_iterations": (lambda v: xorpack.quantize(WEIGHT, n_iterations=v), odd(None)),
    "jobs": (lambda v: xorpack.quantize(WEIGHT, jobs=v), ODD),
    "weight": (xorpack.quantize, odd(2.0)),
    "network": (lambda v: xorpack.encode(WEIGHT, network=v), odd(None)),
    "encoder": (lambda v: xorpack.encode(WEIGHT, encoder=v), ODD),
    "rate": (lambda v: xorpack.encode(WEIGHT, rate=v), odd(None)),
    "lanes": (lambda v: xorpack.encode(WEIGHT, lanes=v), odd(None)),
    "mask codec": (lambda v: xorpack.encode(WEIGHT, mask_codec=v), ODD),
    "prefer": (lambda v: xorpack.encode(WEIGHT, prefer=v), ODD),
    "field": (lambda v: xorpack.encode(WEIGHT, field=v), odd(None)),
    "cannot be encoded": (xorpack.encode, (*ODD, [1, 2], ENCODED)),
    "cannot be decoded": (xorpack.decode, (*ODD, WEIGHT, bcq())),
    "cannot be decoded ": (cpu.decode_rows, (*ODD, WEIGHT)),
    "cannot be decoded  ": (lambda v: next(cpu.decode_blocks(v)), (*ODD, WEIGHT)),
    "rows": (lambda v: cpu.decode_rows(ENCODED, v), ODD),
    "network window": (lambda v: xorpack.XorNetwork.quasi_cyclic(window=v), ODD),
    "network n_rows": (lambda v: xorpack.XorNetwork.quasi_cyclic(n_rows=v), ODD),
    "network seed": (lambda v: xorpack.XorNetwork.quasi_cyclic(seed=v), ODD),
    "network n_in": (lambda v: xorpack.XorNetwork.dense(n_in=v, n_out=2), ODD),
    "network n_s": (lambda v: xorpack.XorNetwork.dense(n_in=1, n_out=2, n_s=v), ODD),
    "network n_taps": (lambda v: xorpack.XorNetwork.sparse(n_in=4, n_out=2, n_taps=v), ODD),
    "shape": (lambda v: replace(bcq(), shape=v), ODD),
    "mask": (lambda v: replace(bcq(), mask=v), ODD),
    "scales": (lambda v: replace(bcq(), scales=v), ODD),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_the_api(name: str) -> None:
    call, values = CALLS[name]
    for value in values:
        if name in ("rows", "network seed") and value in (2.0, 10**20) and not isinstance(value, float):
            continue
        with pytest.raises(ParameterError, match=name.strip()):
            call(value)


FIELDS = tuple(Settings.__dataclass_fields__)
OPTIONAL = (
    "rate",
    "rates",
    "target_bits",
    "max_size",
    "sparsity",
    "group_size",
    "outliers",
    "rank",
    "mask_bits",
)
FINE = {
    "lossless": (True,), "positive_zeros": (True,), "mask_bits": (2.5, 2.0, 10**20), "rate": (2.5, 2.0),
    "target_bits": (2.5, 2.0, 10**20),
}  # fmt: skip


@pytest.mark.parametrize("name", [*FIELDS, "jobs"])
def test_arguments_of_a_run(name: str, tmp_path: Path) -> None:
    save_file({"layer.weight": WEIGHT}, tmp_path / "m")
    for value in ODD:
        if any(value is f or (value == f and not isinstance(value, bool)) for f in FINE.get(name, ())):
            continue
        if value is None and name in OPTIONAL:
            continue
        options = {"mask_codec": "bmf"} if name in ("rank", "mask_bits") else {}
        with pytest.raises(ParameterError, match=name):
            xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", **{**options, name: value})
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_arguments_of_other_runs(tmp_path: Path) -> None:
    source = tmp_path / "m"
    save_file({"layer.weight": pruned((64, 64), 0.5)}, source)
    calls = (
        lambda v: xorpack.prune_checkpoint(source, tmp_path / "x", sparsity=0.5, jobs=v),
        lambda v: xorpack.prune_checkpoint(source, tmp_path / "x", sparsity=v),
        lambda v: xorpack.prune_checkpoint(source, tmp_path / "x", sparsity=0.5, method=v),
        lambda v: xorpack.prune_checkpoint(source, tmp_path / "x", sparsity=0.5, scope=v),
        lambda v: xorpack.prune_checkpoint(source, tmp_path / "x", method="n:m", pattern=v),
        lambda v: xorpack.prune_checkpoint(source, tmp_path / "x", method="n:m", pattern=(v, v)),
        lambda v: xorpack.decode_checkpoint(source, tmp_path / "x", jobs=v),
        lambda v: xorpack.verify_checkpoint(source, jobs=v),
        lambda v: xorpack.report_checkpoint(source, n_maps=v),
        lambda v: render(xorpack.report_checkpoint(source), width=v),
    )
    for call in calls:
        for value in ODD:
            with pytest.raises(ParameterError):
                call(value)
    for value in odd(None, 10**20):
        with pytest.raises(ParameterError, match="sample"):
            xorpack.report_checkpoint(source, sample=value)
        with pytest.raises(ParameterError, match="sort"):
            render(xorpack.report_checkpoint(source), sort=value)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_one_text_is_one_pattern(tmp_path: Path) -> None:
    save_file({"l.weight": pruned((64, 64), 0.5), "m.weight": pruned((64, 64), 0.5)}, tmp_path / "m")
    report = xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "x", include="l.weight")
    assert list(report.accounts) == ["l.weight"]
    with pytest.raises(ParameterError, match="exclude holds 3"):
        xorpack.encode_checkpoint(tmp_path / "m", tmp_path / "y", exclude=3)


HUGE = "9" * 20
COMMANDS = [
    f"encode M X --group-size {HUGE}", "encode M X --group-size 2.5", f"encode M X --bits {HUGE}",
    "encode M X --mask bmf --sparsity 0.5 --mask-bits inf", "encode M X --mask bmf --sparsity 0.5 --mask-bits nan",
    f"encode M X --mask bmf --sparsity 0.5 --rank {HUGE}", f"encode M X --jobs {HUGE}", "encode M X --jobs 0",
    "encode M X --sparsity nan", "encode M X --sparsity 1e400", "prune M X --sparsity inf", "prune M X --pattern 4:2",
    f"prune M X --pattern 1:{HUGE}", "prune M X --sparsity 0.5 --method bmf --mask-bits inf",
    f"decode M X --jobs {HUGE}",
    f"report M --group-size {HUGE}", "report M --sparsity -1", "report M --top -1", f"verify M --jobs {HUGE}",
    f"study --seeds {HUGE}",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_arguments_of_commands(command: str, tmp_path: Path) -> None:
    save_file({"layer.weight": WEIGHT}, tmp_path / "m")
    names = {"M": str(tmp_path / "m"), "X": str(tmp_path / "x")}
    done = CliRunner().invoke(cli, [names.get(argument, argument) for argument in command.split()])
    assert done.exit_code == 2 or isinstance(done.exception, ParameterError), done.exception
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_options_that_cannot_apply_to_a_tensor() -> None:
    dense = xorpack.XorNetwork.dense(n_in=1, n_out=2)
    with pytest.raises(ParameterError, match="rate is of turned and quasi-cyclic networks"):
        xorpack.encode(WEIGHT, network=dense, rate=0.5)
    with pytest.raises(ParameterError, match="a field of binary codes is of the XOR code of any rate"):
        xorpack.encode(bcq(), field="always", network=dense)
    assert Settings().check() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_importing(number: int) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "xorpack", "info", "nothing"]
    for loaded in ("signal", "click", "numpy", "numba.core.config"):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if line.rstrip().endswith(f" {loaded}"):
                break
        if loaded == "signal":
            time.sleep(0.05)
        os.kill(process.pid, number)
        rest = process.communicate(timeout=120)[1].splitlines()
        said = [line for line in rest if line and not line.startswith("import time:")]
        assert process.returncode in (130, 1), said
        assert said in (
            ["xorpack: interrupted; nothing was written"],
            ["xorpack: nothing: no such file or directory"],
        )
