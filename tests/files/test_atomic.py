"""Outputs appear whole or not at all, whoever else writes there and whenever a run ends."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from xorpack.errors import DestinationError
from xorpack.files import atomic, renaming
from xorpack.files.atomic import atomic_directory, atomic_file

OLD, NEW = {"a.safetensors": b"\2\0\0\0\0\0\0\0{}"}, {"b": b"new", "c/d": b"more"}


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def fill(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def replace(path: Path) -> None:
    with atomic_directory(path, overwrite=True) as temporary:
        fill(temporary, NEW)


def hidden(parent: Path) -> list[str]:
    return [path.name for path in parent.iterdir() if path.name.startswith(".")]


@pytest.fixture(params=["renameat2", "steps"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to rename: in one step, and as where the system cannot."""
    if request.param == "steps":
        monkeypatch.setattr(renaming, "_renameat2", lambda source, path, flags: False)
    elif not sys.platform.startswith("linux"):
        pytest.skip("only Linux has it")
    return str(request.param)


def test_replacing(tmp_path: Path, way: str) -> None:
    fill(tmp_path / "d", OLD)
    replace(tmp_path / "d")
    assert contents(tmp_path / "d") == NEW
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_of_several_at_once_one_wins(tmp_path: Path, way: str, kind: str) -> None:
    barrier, failed = threading.Barrier(4), []

    def write(number: int) -> None:
        try:
            with (atomic_file if kind == "file" else atomic_directory)(tmp_path / "d") as temporary:
                (temporary if kind == "file" else temporary / "x").write_text(str(number))
                barrier.wait(60)
        except DestinationError as error:
            assert "meanwhile" in str(error)  # noqa: PT017
            failed.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (won,) = set(range(4)) - set(failed)
    assert set(contents(tmp_path).values()) == {str(won).encode()}
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("stands", ["file", "directory", "empty"])
def test_what_appeared_meanwhile_stays(tmp_path: Path, way: str, stands: str) -> None:
    def write() -> None:
        with atomic_directory(tmp_path / "d") as temporary:
            fill(temporary, NEW)
            if stands == "file":
                (tmp_path / "d").write_text("theirs")
            else:
                fill(tmp_path / "d", OLD)
                if stands == "empty":
                    (tmp_path / "d" / "a.safetensors").unlink()

    with pytest.raises(DestinationError, match="appeared meanwhile"):
        write()
    assert NEW.items().isdisjoint(contents(tmp_path).items())
    assert os.listdir(tmp_path) == ["d"]


def test_what_appeared_meanwhile_and_is_no_checkpoint_stays(tmp_path: Path, way: str) -> None:
    def write() -> None:
        with atomic_directory(tmp_path / "d", overwrite=True) as temporary:
            fill(temporary, NEW)
            fill(tmp_path / "d", {"precious": b"x"})

    with pytest.raises(DestinationError, match="does not look like a checkpoint"):
        write()
    assert contents(tmp_path) == {"d/precious": b"x"}


def steps(monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[int], None]) -> None:
    """Call ``interrupt`` before and after every rename and exchange, with the number of the moment."""
    moments = iter(range(100))

    def around(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            interrupt(next(moments))
            done = original(*arguments)
            interrupt(next(moments))
            return done

        return call

    monkeypatch.setattr(renaming, "_renameat2", around(renaming._renameat2))
    monkeypatch.setattr(os, "rename", around(os.rename))


def test_an_interrupt_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = set()
    for moment in range(12):
        place = tmp_path / str(moment)
        fill(place / "d", OLD)
        reached = []

        def interrupt(now: int, moment: int = moment, reached: list[int] = reached) -> None:
            if now == moment:
                reached.append(now)
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            steps(patched, interrupt)
            try:
                replace(place / "d")
                said = ""
            except KeyboardInterrupt as error:
                said = f"interrupted {error}"
        assert os.listdir(place) == ["d"], moment
        found = contents(place / "d")
        assert found in (OLD, NEW), moment
        assert ("had been written" in said) == (found == NEW and bool(reached))
        outcomes.add((bool(reached), found == NEW))
    assert outcomes >= {(True, False), (True, True), (False, True)}


def test_a_swap_that_fails_brings_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renaming, "_renameat2", lambda source, path, flags: False)
    fill(tmp_path / "d", OLD)
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if str(source).endswith(atomic.WRITTEN):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(DestinationError, match="cannot be written: Input/output error"):
        replace(tmp_path / "d")
    assert contents(tmp_path) == {f"d/{name}": data for name, data in OLD.items()}
    assert os.listdir(tmp_path) == ["d"]


def test_the_old_one_is_not_removed_for_a_third(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody takes the name in the middle of a swap: neither theirs nor the old one is lost, and both are named."""
    monkeypatch.setattr(renaming, "_renameat2", lambda source, path, flags: False)
    fill(tmp_path / "d", OLD)
    rename = os.rename

    def interfere(source: Path, target: Path) -> None:
        rename(source, target)
        if str(target).endswith(atomic.REPLACED):
            fill(tmp_path / "d", {"theirs": b"x"})

    monkeypatch.setattr(os, "rename", interfere)
    with pytest.raises(DestinationError, match="not empty"):
        replace(tmp_path / "d")
    found = contents(tmp_path)
    assert found.pop("d/theirs") == b"x"
    assert list(found.values()) == list(OLD.values())
    assert NEW.items().isdisjoint(found.items())


def test_everything_is_flushed_before_it_gets_its_name(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: set[tuple[int, int]] = set()
    fsync = os.fsync

    def flush(descriptor: int) -> None:
        found = os.fstat(descriptor)
        flushed.add((found.st_dev, found.st_ino))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flush)

    def unflushed(root: Path) -> list[Path]:
        every = [root, *root.rglob("*")]
        return [path for path in every if (path.stat().st_dev, path.stat().st_ino) not in flushed]

    def rename(original: Callable[..., object]) -> Callable[..., object]:
        def call(source: Path, *rest: object) -> object:
            if str(source).endswith(atomic.WRITTEN):
                assert not unflushed(source)
            return original(source, *rest)

        return call

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, rename(getattr(os, name)))
    monkeypatch.setattr(renaming, "_renameat2", rename(renaming._renameat2))
    for overwrite in (False, True):
        for make, path in ((atomic_directory, tmp_path / "d"), (atomic_file, tmp_path / "f")):
            with make(path, overwrite=overwrite) as temporary:
                fill(
                    temporary, NEW | OLD | {"config.json": b"{}"}
                ) if make is atomic_directory else temporary.write_text("x")
            flushed_parent = tmp_path.stat()
            assert (flushed_parent.st_dev, flushed_parent.st_ino) in flushed
            flushed.clear()


KILLED = """
import os, signal, sys
from pathlib import Path
from xorpack.files.atomic import atomic_directory, atomic_file
with (atomic_directory if sys.argv[2] == "directory" else atomic_file)(Path(sys.argv[1]), overwrite=True) as path:
    (path / "half" if sys.argv[2] == "directory" else path).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL) if len(sys.argv) == 3 else input()
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_what_a_killed_run_left_is_removed_and_named(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "d"
    subprocess.run([sys.executable, "-c", KILLED, target, kind], timeout=120, check=False)
    (left,) = hidden(tmp_path)
    mine = tmp_path / ".d.notes.xorpack-tmp"  # looks alike, but no run names it so
    mine.write_text("x")
    with caplog.at_level(logging.WARNING), atomic_file(target) as path:
        path.write_text("new")
    assert left in caplog.text
    assert contents(tmp_path) == {"d": b"new", mine.name: b"x"}


def test_what_a_living_run_writes_stays(tmp_path: Path) -> None:
    target = tmp_path / "d"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, target, "directory", "wait"], stdin=subprocess.PIPE, text=True
    )
    while not any((tmp_path / name / "half").exists() for name in hidden(tmp_path)):
        assert process.poll() is None

    def be_slower() -> None:
        with atomic_file(target) as path:
            path.write_text("new")
            process.communicate("\n", timeout=120)

    with pytest.raises(DestinationError, match="appeared meanwhile"):
        be_slower()
    assert process.returncode == 0
    assert contents(tmp_path) == {"d/half": b"half"}


def test_what_was_moved_aside_when_a_run_was_killed_is_named_and_never_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    aside = tmp_path / f".d.abcd1234{atomic.REPLACED}"
    fill(aside, OLD)
    with pytest.raises(DestinationError, match=r"moved what stood there to .*\.d\.abcd1234.*move it back"):
        replace(tmp_path / "d")
    (tmp_path / "d").mkdir()
    with caplog.at_level(logging.WARNING):
        replace(tmp_path / "d")
    assert str(aside) in caplog.text
    assert contents(aside) == OLD
    assert contents(tmp_path / "d") == NEW


def test_without_locks_leftovers_are_only_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(atomic, "fcntl", None)
    left = tmp_path / f".d.abcd1234{atomic.WRITTEN}"
    left.write_text("half")
    with caplog.at_level(logging.WARNING), atomic_file(tmp_path / "d") as path:
        path.write_text("new")
    assert str(left) in caplog.text
    assert left.exists()
