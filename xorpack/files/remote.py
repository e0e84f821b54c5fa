"""Checkpoints at URLs, by fsspec: ``s3://``, ``gs://``, ``file://``, ``memory://``, whatever it has a package for.

A source is staged: a directory here gets its small files and, for each safetensors file, a stand-in with the header
and nothing else (a hole as long as the tensors). What code on paths does with headers it does with these; tensors are
read from the URL, a range at a time, when they are asked for. An output is made here and uploaded at the end: an object
store renames nothing, so a directory is there file by file, the weights first.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.errors import DestinationError, ParameterError, SourceError, XorpackError
from xorpack.files import foreign
from xorpack.files.atomic import remove
from xorpack.files.reading import SourceFile
from xorpack.files.safetensors_file import MAX_HEADER_BYTES, SafetensorsFile, StoredInFile, StoredTensor
from xorpack.files.tree import REPOSITORY
from xorpack.files.url import is_url


@dataclass(frozen=True, slots=True)
class RemoteFile(SourceFile):
    """A file at a URL as it was when it was first looked at.

    Attributes:
        path: of its stand-in.
        stamp: 0, size, and what tells a version from another, as a number.
        url: where it is read from; it can be sent to another process.
    """

    url: str

    def read(self, begin: int, size: int) -> NDArray[np.uint8]:
        """See :meth:`SourceFile.read`."""
        with _naming(self.url, SourceError, "read"):
            files, path = _open(self.url)
            data = files.cat_file(path, begin, begin + size) if size else b""
        if len(data) != size:
            raise SourceError(f"{self.url}: became shorter while it was read")
        return np.frombuffer(bytearray(data), np.uint8)

    def check(self) -> None:
        """See :meth:`SourceFile.check`."""
        with _naming(self.url, SourceError, "read"):
            files, path = _open(self.url)
            found = _version(files, path)
        if found != self.stamp[-1]:
            raise SourceError(f"{self.url}: changed while it was read; try again when it is at rest")


@dataclass(frozen=True, slots=True)
class Staged:
    """A source, here.

    Attributes:
        path: of the file or directory; that of a URL, staged.
        remote: what the stand-ins there stand for.
        url: of the source, if it is none of a path.
    """

    path: Path
    remote: Mapping[Path, RemoteFile]
    url: str | None = None

    @property
    def paths(self) -> list[Path]:
        """What is to be seen by whoever reads tensors: nothing, of a URL."""
        return [] if self.url is not None else [self.path]

    def shown(self, path: Path) -> Path | str:
        """A path in it as it was asked for."""
        return path if self.url is None else str(path).replace(str(self.path), self.url, 1)

    def open(self, files: Sequence[SafetensorsFile]) -> list[SafetensorsFile]:
        """The files, those that are stand-ins with the tensors that they stand for."""
        return [_attach(file, self.remote[file.path]) if file.path in self.remote else file for file in files]


@contextmanager
def staged(source: str | Path) -> Iterator[Staged]:
    """A source of a path as it is, that of a URL staged; errors within name the URL.

    Raises:
        FileNotFoundError, SourceError: nothing is there, or it cannot be read.
        ParameterError: fsspec, or what it needs for such a URL, is not installed.
    """
    if not is_url(source):
        yield Staged(Path(source), {})
        return
    url = str(source).rstrip("/")
    with tempfile.TemporaryDirectory(prefix="xorpack-") as folder:
        root = Path(folder, PurePosixPath(url).name)
        try:
            yield Staged(root, _stage(url, root), url)
        except XorpackError as error:
            raise type(error)(str(error).replace(str(root), url)) from error


def _stage(url: str, root: Path) -> dict[Path, RemoteFile]:
    with _naming(url, SourceError, "read"):
        files, path = _open(url)
        found = files.find(path, detail=True) if files.isdir(path) else {path: files.info(path)}
        remote: dict[Path, RemoteFile] = {}
        for name, info in found.items():
            inside = name[len(path) :].lstrip("/") if name != path else ""
            here = root / inside
            here.parent.mkdir(parents=True, exist_ok=True)
            if REPOSITORY in Path(inside).parts:
                continue
            if here.suffix == ".safetensors" and "/" not in inside:
                remote[here] = _stand_in(
                    files, name, info["size"], f"{url}/{inside}" if inside else url, here
                )
            elif "/" not in inside and foreign.is_twin(here.name):
                here.touch()  # is left out, and named
            else:
                files.get_file(name, str(here))
    return remote


def _stand_in(files: Any, name: str, size: int, url: str, here: Path) -> RemoteFile:
    beginning = files.cat_file(name, 0, min(size, 8))
    n_header = int.from_bytes(beginning, "little")
    whole = 8 + n_header if n_header <= MAX_HEADER_BYTES else 64
    with open(here, "wb") as file:
        file.write(files.cat_file(name, 0, min(size, whole)))
        file.truncate(size)
    return RemoteFile(here, size, (0, size, _version(files, name)), url)


def _attach(file: SafetensorsFile, remote: RemoteFile) -> SafetensorsFile:
    at, tensors = 8 + len(file.header), dict[str, StoredTensor]()
    for name, stored in file.tensors.items():  # in the order of their bytes
        tensors[name] = StoredInFile(stored.dtype, stored.shape, remote, at, stored.n_bytes)
        at += stored.n_bytes
    return replace(file, source=remote, tensors=tensors)


@contextmanager
def destination(
    target: str | Path, source: str | Path, *, overwrite: bool
) -> Iterator[tuple[Path, Callable[[Path], None]]]:
    """Where to make an output, and what brings that to ``target``: nothing, if it is a path.

    That of a URL is made in a folder of the temporary ones (``TMPDIR``), always the same for a URL, so that a run that
    resumes finds what another left.

    Raises:
        DestinationError: something stands at the URL, or it cannot be asked.
        ParameterError: a URL that is to be overwritten, or lies in the source.
    """
    if not is_url(target):
        yield Path(target), lambda made: None
        return
    url = str(target).rstrip("/")
    if overwrite:
        raise ParameterError(f"{url}: overwrite is of paths; remove what stands at a URL first")
    if f"{url}/".startswith(f"{str(source).rstrip('/')}/"):
        raise ParameterError(f"destination {url} lies in the source {source}")
    with _naming(url, DestinationError, "written"):
        files, path = _open(url)
        if files.exists(path):
            raise DestinationError(f"destination {url} exists; remove it first")
    folder = Path(tempfile.gettempdir(), "xorpack-" + re.sub(r"[^A-Za-z0-9.]+", "-", url))
    folder.mkdir(exist_ok=True)
    made = folder / PurePosixPath(url).name
    try:
        yield made, lambda out: _upload(out, url)
    except XorpackError as error:
        raise type(error)(str(error).replace(str(made), url)) from error
    finally:
        remove(made)
        with suppress(OSError):  # it holds what is to be gone on with
            folder.rmdir()


def _upload(out: Path, url: str) -> None:
    """Bring a file or directory to where nothing stands; what has been brought goes if that fails."""
    brought: list[str] = []
    with _naming(url, DestinationError, "written"):
        files, path = _open(url)
        every = [p for p in out.rglob("*") if p.is_file()] if out.is_dir() else [out]
        try:
            for file in sorted(every, key=lambda file: (file.suffix == ".json", file)):
                inside = file.relative_to(out).as_posix()
                brought.append(path if inside == "." else f"{path}/{inside}")
                files.makedirs(files._parent(brought[-1]), exist_ok=True)
                files.put_file(str(file), brought[-1])
        except BaseException:
            for name in brought:
                with suppress(Exception):
                    files.rm_file(name)
            if out.is_dir():
                for folder in sorted({files._parent(name) for name in brought}, reverse=True):
                    with suppress(Exception):
                        files.rmdir(folder)
            raise


def _open(url: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ParameterError(f"{url}: URLs need fsspec: pip install 'xorpack[dask]'") from None
    try:
        files, path = url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise ParameterError(f"{url}: {error}") from None
    return files, str(path).rstrip("/")


def _version(files: Any, path: str) -> int:
    return int.from_bytes(str(files.ukey(path)).encode()[-16:], "big")


@contextmanager
def _naming(url: str, kind: type[XorpackError], what: str) -> Iterator[None]:
    """Errors of whatever package is behind fsspec, as ours: they share no base."""
    try:
        yield
    except XorpackError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(f"{url}: no such file or directory") from None
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise kind(f"{url}: cannot be {what}: {type(error).__name__}: {first}") from error
