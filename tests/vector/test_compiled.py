"""Where compiled kernels are kept: fresh after every change, and importable where nothing can be kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba

from xorpack.vector import compiled


def run(script: str, **environment: str) -> str:
    command = [sys.executable, "-c", script]
    known = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=known | environment, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_place_to_keep_anything(tmp_path: Path) -> None:
    package = tmp_path / "xorpack"
    shutil.copytree(compiled.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    for folder in (package, *(path for path in package.rglob("*") if path.is_dir())):
        (folder / "__pycache__").write_text("a file, so that nothing can be kept here, whoever asks")
    script = """
import numpy as np, xorpack
from xorpack.vector.compiled import directory
weight = np.eye(4, 40, dtype=np.int8)
import xorpack.checkpoint
from xorpack.encoding.quantize.pruning import zeros_mask
kept = int(np.bitwise_count(zeros_mask(weight.astype(np.float32))).sum())
print(xorpack.__file__, directory(), kept)
"""
    nowhere = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "/dev/null/cache", "PYTHONPATH": str(tmp_path)}
    assert run(script, **nowhere) == f"{package / '__init__.py'} None 4"
    there = {**nowhere, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    script = "from xorpack.vector.compiled import directory; print(directory())"
    assert run(script, **there).startswith(str(tmp_path / "cache" / "xorpack" / "kernels-"))
    asked = {**nowhere, "NUMBA_CACHE_DIR": str(tmp_path / "asked")}
    assert run(script, **asked).startswith(str(tmp_path / "asked" / "kernels-"))


CALLER = """
from callee import callee
from xorpack.vector.compiled import njit

@njit(cache=True, nogil=True)
def caller():
    return callee()
"""
CALLEE = """
from xorpack.vector.compiled import njit

@njit(cache=True, nogil=True)
def callee():
    return {}
"""


def test_a_change_of_what_a_kernel_calls_is_seen(tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(CALLER)
    script = f"""
import sys
from pathlib import Path
from xorpack.vector import compiled
compiled.PACKAGE = Path({str(tmp_path)!r})
sys.path.insert(0, {str(tmp_path)!r})
from caller import caller
print(caller(), sum(caller.stats.cache_hits.values()))
"""
    for value, found in ((1, "1 0"), (1, "1 1"), (2, "2 0"), (1, "1 1")):
        (tmp_path / "callee.py").write_text(CALLEE.format(value))
        assert run(script) == found
    assert len(list((tmp_path / "__pycache__").glob("kernels-*"))) == 2


def test_the_hash_is_of_what_holds_kernels(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(CALLEE)
    (tmp_path / "other.py").write_text("a = 1\n")
    before = compiled.source_hash(tmp_path)
    (tmp_path / "other.py").write_text("a = 2\n")
    assert compiled.source_hash(tmp_path) == before
    (tmp_path / "kernel.py").write_text(CALLEE + "# changed\n")
    assert compiled.source_hash(tmp_path) != before


def test_old_ones_are_removed_and_the_setting_of_others_stays(tmp_path: Path) -> None:
    old, new = tmp_path / "kernels-old", tmp_path / "kernels-new"
    for place in (old, new):
        place.mkdir()
    os.utime(old, (0, 0))
    compiled._remove_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kernels-new"]
    before = numba.config.CACHE_DIR
    kernel = compiled.njit(cache=True)(lambda: 1)
    assert before == numba.config.CACHE_DIR
    assert kernel() == 1
