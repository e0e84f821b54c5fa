"""Where compiled kernels are kept: fresh after every change, and importable where nothing can be kept."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import event
from numba.core.codegen import JITCodeLibrary

from xorpack.vector import compiled
from xorpack.vector.llvm import apart
from xorpack.vector.xor import xor8


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
from pathlib import Path
from xorpack.vector import bitops
from xorpack.vector.compiled import directory
weight = np.eye(4, 40, dtype=np.int8)
import xorpack.checkpoint
from xorpack.encoding.quantize.pruning import zeros_mask
kept = int(np.bitwise_count(zeros_mask(weight.astype(np.float32))).sum())
print(xorpack.__file__, directory(Path(bitops.__file__)), kept)
"""
    nowhere = {"HOME": "/dev/null/home", "XDG_CACHE_HOME": "/dev/null/cache", "PYTHONPATH": str(tmp_path)}
    assert run(script, **nowhere) == f"{package / '__init__.py'} None 4"
    there = {**nowhere, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    script = """
from pathlib import Path
from xorpack.vector import bitops, compiled
print(compiled.directory(Path(bitops.__file__)))
"""
    assert run(script, **there).startswith(str(tmp_path / "cache" / "xorpack" / "kernels-"))
    asked = {**nowhere, "NUMBA_CACHE_DIR": str(tmp_path / "asked")}
    assert run(script, **asked).startswith(str(tmp_path / "asked" / "kernels-"))


CALLER = """
from toy import other
from toy.callee import callee
from xorpack.vector.compiled import njit

@njit(cache=True, nogil=True)
def caller():
    return callee()
"""
CALLEE = """
from toy.numbers import (
    NUMBER,
)
from xorpack.vector.compiled import njit

@njit(cache=True, nogil=True)
def callee():
    return NUMBER
"""


def toy_package(tmp_path: Path) -> Path:
    package = tmp_path / "toy"
    package.mkdir()
    for name, text in (("caller", CALLER), ("callee", CALLEE), ("numbers", "NUMBER = 1"), ("other", "")):
        (package / f"{name}.py").write_text(text)
    (package / "__init__.py").write_text("")
    return package


def test_a_change_of_what_a_kernel_calls_is_seen(tmp_path: Path) -> None:
    package = toy_package(tmp_path)
    script = f"""
import sys
from pathlib import Path
from xorpack.vector import compiled
from xorpack.vector.llvm import apart
compiled.PACKAGE = Path({str(package)!r})
sys.path.insert(0, {str(tmp_path)!r})
from toy.caller import caller
print(caller(), sum(caller.stats.cache_hits.values()))
"""
    for value, found in ((1, "1 0"), (1, "1 1"), (2, "2 0"), (1, "1 1")):
        (package / "numbers.py").write_text(f"NUMBER = {value}")
        assert run(script) == found


def test_the_hash_is_of_what_a_module_imports(tmp_path: Path) -> None:
    package = toy_package(tmp_path)

    def hashes() -> list[str]:
        compiled._imported.cache_clear()
        return [compiled.source_hash(package / f"{name}.py", package) for name in ("caller", "callee")]

    caller, callee = hashes()
    (package / "__init__.py").write_text("a = 1")
    assert hashes() == [caller, callee]
    (package / "other.py").write_text("a = 1")
    assert [a == b for a, b in zip(hashes(), (caller, callee), strict=True)] == [False, True]
    (package / "other.py").write_text("")
    (package / "numbers.py").write_text("NUMBER = 2")
    assert [a == b for a, b in zip(hashes(), (caller, callee), strict=True)] == [False, False]


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


@compiled.part
def doubled(x):
    return 2 * x


class Compiled(event.Listener):
    """Names of what is compiled, and whether anything was collected meanwhile."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.collects = False

    def on_start(self, event: event.Event) -> None:
        self.names.append(event.data["dispatcher"].py_func.__name__)
        self.collects |= gc.isenabled()

    def on_end(self, event: event.Event) -> None:
        pass


def compile_and_run(kernel, *arguments):
    listener = Compiled()
    with event.install_listener("numba:compile", listener):
        return kernel(*arguments), listener


def test_parts_are_plain_functions_that_kernels_call() -> None:
    @compiled.njit()
    def kernel(x):
        return doubled(x) + 1

    assert type(doubled) is type(compile_and_run)
    assert doubled("ab") == "abab"
    found, listener = compile_and_run(kernel, 4)
    assert found == 9
    assert listener.names == ["kernel", "doubled"]


@compiled.part
def quadrupled(x):
    if x > 100:
        raise ValueError("too much")
    return doubled(doubled(x))


@compiled.part
def seldom(x):
    apart()
    return 3 * x


@compiled.inlined
def often(x):
    return seldom(x) + 1


def test_machine_code_is_made_of_kernels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    emit = JITCodeLibrary._finalize_final_module
    monkeypatch.setattr(
        JITCodeLibrary, "_finalize_final_module", lambda library: made.append(library.name) or emit(library)
    )

    @compiled.njit()
    def kernel(x):
        return quadrupled(x) + doubled(x)

    assert kernel(3) == 18
    assert len([name for name in made if "quadrupled" in name or "doubled" in name]) == 0
    assert any("kernel" in name for name in made)
    with pytest.raises(ValueError, match="too much"):
        kernel(101)
    assert kernel(4) == 24


def test_what_is_seldom_called_stays_apart() -> None:
    @compiled.njit()
    def kernel(x):
        return often(x) + often(x + 1)

    assert kernel(2) == 17
    defined = [
        line for text in kernel.inspect_llvm().values() for line in text.splitlines() if line[:6] == "define"
    ]
    assert any("seldom" in line for line in defined)
    assert not any("often" in line for line in defined)
    assert often(2) == 7


def test_operations_are_emitted_where_they_are_called() -> None:
    @compiled.njit()
    def kernel(words):
        xor8(words, 0, words, 0, words, 8)

    words = np.arange(16, dtype=np.uint64)
    _, listener = compile_and_run(kernel, words)
    assert words.tolist() == [8] * 8 + list(range(8, 16))
    assert listener.names == ["kernel"]


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_while_a_kernel_is_compiled(
    collects: bool, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(gc.enable)
    if not collects:
        gc.disable()
    _, listener = compile_and_run(compiled.njit()(lambda: 1))
    assert listener.names == ["<lambda>"]
    assert not listener.collects
    assert gc.isenabled() == collects
    with pytest.raises(numba.errors.TypingError):
        compiled.njit()(lambda: doubled(None))()
    assert gc.isenabled() == collects
