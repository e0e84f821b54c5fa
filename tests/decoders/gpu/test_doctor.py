"""``xorpack doctor`` is useful on a machine without any of it."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from xorpack.cli.doctor import doctor
from xorpack.cuda.device import device
from xorpack.decoders.gpu import doctor as module
from xorpack.errors import DeviceError


def versions(monkeypatch, **installed):
    def version(name):
        key = name.replace("-", "_")
        if key not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[key]

    monkeypatch.setattr(module.importlib.metadata, "version", version)


def test_without_a_driver(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(module.ctypes, "CDLL", missing)
    versions(monkeypatch)
    result = CliRunner().invoke(doctor)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith("NO  driver:")
    assert "--gpus all" in lines[1]
    assert "NO  CuPy: not installed" in lines
    assert "    fix: pip install 'xorpack[cuda12]'" in lines
    assert lines[-2] == "    cpu: decode on the CPU: always"
    assert "see the first fix" in lines[-1]


def test_json_of_this_machine():
    result = CliRunner().invoke(doctor, ["--json"])
    assert result.exit_code == 0
    report = json.loads(result.output)
    assert report["findings"][0]["what"] == "driver"
    assert all(finding["fine"] or finding["fix"] for finding in report["findings"])
    assert report["gpu_decoder"] == all(finding["fine"] for finding in report["findings"])


@pytest.mark.parametrize(
    ("cuda", "installed", "fine", "fix"),
    [
        (12, {"cupy_cuda12x": "14.2.0"}, True, ""),
        (13, {"cupy_cuda12x": "14.2.0"}, True, ""),
        (None, {"cupy_cuda13x": "14.2.0"}, True, ""),
        (12, {"cupy_cuda13x": "14.2.0"}, False, "the driver is for CUDA 12: pip uninstall cupy-cuda13x"),
        (13, {"cupy_cuda13x": "14.2.0", "cupy_cuda12x": "13.6.0"}, False, "overwrite each other"),
        (13, {}, False, r"xorpack\[cuda13\]"),
        (12, {"cupy": "14.2.0"}, True, ""),
    ],
)
def test_package_and_driver_must_fit(monkeypatch, cuda, installed, fine, fix):
    versions(monkeypatch, **installed)
    finding, _ = module._package(cuda)
    assert finding.fine == fine
    assert re.search(fix, finding.fix), finding


def test_an_old_gpu_is_named():
    old = module.Gpu(
        name="T4", compute_capability=(7, 5), n_multiprocessors=40, shared_limit=65536, memory=1 << 34
    )
    (finding,) = module._gpu_findings([old])
    assert not finding.fine
    assert "compute capability 7.5" in finding.found
    assert "8.0" in finding.fix


def test_the_benchmark_says_in_one_line_that_there_is_no_gpu():
    try:
        device()
    except DeviceError:
        pass
    else:
        pytest.skip("there is a GPU")
    root = Path(__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("benchmarks.gpu: ")
