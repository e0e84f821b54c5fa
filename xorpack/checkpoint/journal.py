"""The journal of an encoding: what is finished, so that a run which is killed can be gone on with.

A file of lines, each a JSON object, in the workspace beside the destination. The first says what the work depends on:
versions, settings, and the source's files by size, time of change and digest of their header. Then come, as they are
done, ``{"quantizers": ...}``, ``{"tensor": NAME, ...}`` and ``{"file": NAME, "header_sha256": ...}``. A last line that
was cut off does not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from xorpack._version import __version__
from xorpack.checkpoint.budget import Quantizer
from xorpack.checkpoint.settings import Settings
from xorpack.checkpoint.task import TensorResult
from xorpack.errors import ParameterError, SourceError, XorpackError
from xorpack.files import safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.reading import SourceFile
from xorpack.files.record import VERSION
from xorpack.files.safetensors_file import SafetensorsFile

NAME = "journal.jsonl"
"""Of the file in the workspace."""


def identity(
    settings: Settings,
    include: Sequence[str],
    exclude: Sequence[str],
    files: Sequence[SafetensorsFile],
    hessians: Sequence[SourceFile],
    *,
    tp: int = 1,
    walk: str | None = None,
) -> dict[str, Any]:
    """What the bytes of an encoded checkpoint depend on, as JSON has it; ``walk``: its digest."""
    source = source_of(files)
    found = {
        "version": {"xorpack": __version__, "format": VERSION},
        "settings": {f.name: getattr(settings, f.name) for f in fields(settings)}
        | {"include": list(include), "exclude": list(exclude), "tp": tp, "sequential": walk},
        "source": source | {f"--hessian {stats.path.name}": state_of(stats) for stats in hessians},
    }
    return dict(json.loads(json.dumps(found, default=dict)))


def source_of(files: Sequence[SafetensorsFile]) -> dict[str, dict[str, Any]]:
    """What a checkpoint's files are known again by, as JSON has it."""
    return {file.path.name: {**state_of(file.source), "header": _sha256(file.header)} for file in files}


def state_of(source: SourceFile) -> dict[str, Any]:
    """What a file is known again by, unread."""
    return {"size": source.n_bytes, "time of change": source.stamp[-1]}


class Journal:
    """What a run, and those that it goes on with, have finished.

    Attributes:
        results: of the finished tensors, by name.
        files: digests of the headers of the finished files, by name.
        quantizers: what quantizes each tensor, if that has been chosen.
    """

    def __init__(self, work: Path, run: Mapping[str, Any]) -> None:
        """Read the journal in a workspace, if there is one, else begin it; ``run``: its :func:`identity`.

        Raises:
            ParameterError: it is of other settings or another version.
            SourceError: the source is no longer what it was.
        """
        self._path = work / NAME
        self.results: dict[str, TensorResult] = {}
        self.files: dict[str, str] = {}
        self.quantizers: dict[str, Quantizer] | None = None
        lines = self._read()
        if not lines:
            self._add(run)
        else:
            compare(work, lines[0], run)
        for line in lines[1:]:
            if "tensor" in line:
                name = line.pop("tensor")
                self.results[name] = TensorResult.from_dict(line)
            elif "file" in line:
                self.files[line["file"]] = line["header_sha256"]
            else:
                self.quantizers = {name: Quantizer(*chosen) for name, chosen in line["quantizers"].items()}

    def choose(self, quantizers: Mapping[str, Quantizer]) -> None:
        """Note what quantizes each tensor."""
        self._add({"quantizers": quantizers})

    def finish(self, name: str, result: TensorResult) -> None:
        """Note that a tensor is done, and its part written."""
        self.results[name] = result
        self._add({"tensor": name, **result.as_dict()})

    def finish_file(self, path: Path) -> None:
        """Note that a file is written."""
        self.files[path.name] = _sha256(safetensors_file.read(path).header)
        self._add({"file": path.name, "header_sha256": self.files[path.name]})

    def holds_part(self, name: str, part: Path) -> bool:
        """Whether a tensor is finished, and its part what it was then, every byte."""
        result = self.results.get(name)
        if result is None or result.account is None:
            return result is not None
        found = _whole(part)
        return found is not None and found[name].content_sha256 == result.content_sha256

    def holds_file(self, path: Path) -> bool:
        """Whether a file is finished, and what it was then, every byte."""
        if path.name not in self.files:
            return False
        return (
            _whole(path) is not None and _sha256(safetensors_file.read(path).header) == self.files[path.name]
        )

    def _read(self) -> list[dict[str, Any]]:
        """All whole lines; what follows is cut off."""
        if not self._path.exists():
            return []
        found, size = [], 0
        data = self._path.read_bytes()
        for line in data.splitlines(keepends=True):
            try:
                found.append(json.loads(line))
            except ValueError:
                break
            if not line.endswith(b"\n"):
                found.pop()
                break
            size += len(line)
        if size < len(data):
            with open(self._path, "r+b") as file:
                file.truncate(size)
        return found

    def _add(self, line: Mapping[str, Any]) -> None:
        with open(self._path, "ab", buffering=0) as file:
            file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _whole(path: Path) -> EncodedFile | None:
    """An encoded file of which every checksum holds, else None."""
    try:
        file = EncodedFile(path)
        for name in file:
            file[name]
        for name, stored in file.carried.items():
            file.carried_at(name).check(stored.sha256())
    except (XorpackError, OSError):
        return None
    return file


def compare(work: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare what the work in a workspace depends on with what it did when it was begun.

    Raises:
        ParameterError: it is of other ``settings`` or another ``version``.
        SourceError: the ``source`` is no longer what it was.
    """
    end = "finish it as it was begun, or begin anew without --resume (resume=True)"
    for part in ("version", "settings"):
        for key, value in now[part].items():
            before = then[part].get(key)
            if json.dumps(before) != json.dumps(value):  # the order of patterns counts
                what = f"{part} of {key}" if part == "version" else key
                raise ParameterError(f"{work} was begun with {what} {before!r}, not {value!r}; {end}")
    for name in {**then["source"], **now["source"]}:
        before, value = then["source"].get(name), now["source"].get(name)
        if before is None or value is None:
            what = "is new" if before is None else "is no longer there"
            raise SourceError(f"{name} {what} since {work} was begun; {end}")
        if before != value:
            key = next(key for key in value if before.get(key) != value[key])
            raise SourceError(f"{name} changed since {work} was begun: another {key}; {end}")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
