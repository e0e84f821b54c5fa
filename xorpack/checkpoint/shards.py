"""A checkpoint's files, each written when the last of its tensors is encoded.

What is held is one tensor for each that is being encoded, however large a file is: an encoded tensor goes at once to a
file of its own, a *part*, an ordinary encoded file. When all parts of a file are there they are joined, block by block,
and removed. A file is joined while the tensors of the next are encoded. The journal says what is finished.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from xorpack.checkpoint.journal import Journal
from xorpack.checkpoint.settings import Settings
from xorpack.checkpoint.task import TensorResult, TensorTask, encode_tensor
from xorpack.decoders import cpu
from xorpack.files import container, cuts, safetensors_file
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import SafetensorsFile
from xorpack.files.tree import copy_mode

PARTS = "parts"
"""The folder of a workspace that parts lie in."""


Fit = Callable[[str, NDArray[np.float32]], NDArray[np.float32] | None]
"""Encodes a tensor by its name, fitted to a target: what is decoded of it, or None where it is carried."""


class Walk(Protocol):
    """What decides in which order tensors are encoded, and what they are fitted to, one by what became of another."""

    @property
    def digest(self) -> str:
        """Of all that it depends on."""

    def __call__(self, names: Collection[str], fit: Fit) -> None:
        """Fit some of these tensors."""


class TensorRun(Protocol):
    """What encoding files asks of the run that they belong to."""

    jobs: int

    def task(self, name: str) -> TensorTask:
        """What is to be done for a tensor."""

    def take(self, name: str, result: TensorResult) -> None:
        """Note what became of it."""


def encode_part(task: TensorTask, path: Path) -> TensorResult:
    """Encode one tensor to a file of its own, which appears whole; none where it would not become smaller."""
    encoded, result = encode_tensor(task)
    if encoded is not None:
        unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}")  # by whoever does the same
        container.write(unfinished, {task.name: encoded}, {})
        os.replace(unfinished, path)
    return result


class Shards:
    """Files of a checkpoint to encode, and where each is to be written."""

    def __init__(
        self, settings: Settings, selected: Sequence[str], files: Mapping[Path, SafetensorsFile], work: Path
    ) -> None:
        """Begin.

        Args:
            settings: to be noted in every file.
            selected: tensors to encode.
            files: of the source, by the paths to write.
            work: a directory for parts.
        """
        self.settings, self.files = settings, files
        self._folder = work / PARTS
        self._folder.mkdir(exist_ok=True)
        self._parts = {name: self._folder / str(number) for number, name in enumerate(selected)}

    def encode(self, run: TensorRun, pool: Executor, journal: Journal, walk: Walk | None = None) -> None:
        """Encode what the journal does not hold, in a walk if there is one, all else in ``pool``; join the files."""
        waiting = {
            path: dict.fromkeys(name for name in file.tensors if name in self._parts)
            for path, file in self.files.items()
        }
        for path in [path for path in waiting if journal.holds_file(path)]:
            for name in waiting.pop(path):
                run.take(name, journal.results[name])
        home = {name: path for path, names in waiting.items() for name in names}
        finished = [name for name in home if journal.holds_part(name, self._parts[name])]
        self._remove_parts(but=finished)
        done = set(finished)

        def fit(name: str, target: NDArray[np.float32]) -> NDArray[np.float32] | None:
            task = replace(run.task(name), target=target, jobs=run.jobs)
            if name not in done:
                journal.finish(name, encode_part(task, self._parts[name]))
                self._take(run, name, journal.results[name], waiting[home[name]])
                done.add(name)
            if journal.results[name].account is None:
                return None
            encoded = EncodedFile(self._parts[name])[name]
            return cpu.decode_dense(encoded, jobs=run.jobs).astype(np.float32).reshape(task.stored.shape)

        for name in finished:
            self._take(run, name, journal.results[name], waiting[home[name]])
        if walk is not None:
            walk(home, fit)
        futures: dict[Future[TensorResult], str] = {
            pool.submit(encode_part, run.task(name), self._parts[name]): name
            for name in home
            if name not in done
        }
        for path in [path for path, names in waiting.items() if not names]:
            self._join(path, journal)
        for future in as_completed(futures):
            name, result = futures.pop(future), future.result()
            journal.finish(name, result)
            self._take(run, name, result, waiting[home[name]])
            if not waiting[home[name]]:
                self._join(home[name], journal)

    def _take(self, run: TensorRun, name: str, result: TensorResult, waiting: dict[str, None]) -> None:
        run.take(name, result)
        del waiting[name]
        if result.account is None:
            del self._parts[name]

    def _remove_parts(self, *, but: Sequence[str]) -> None:
        kept = {self._parts[name] for name in but}
        for path in self._folder.iterdir():
            if path not in kept:
                path.unlink()

    def _join(self, path: Path, journal: Journal) -> None:
        """Write the file of which all tensors are encoded, and remove their parts."""
        file = self.files[path]
        parts = {name: self._parts[name] for name in file.tensors if name in self._parts}
        settings = self.settings.info()
        if any(cuts.parse(name)[1] for name in parts):
            settings["cut"] = True
        if file.header != safetensors_file.header_bytes(file.tensors, file.metadata):
            settings[container.ORIGINAL_HEADER] = file.header.decode()
        container.join(
            path,
            {name: safetensors_file.read(part).tensors for name, part in parts.items()},
            {name: stored for name, stored in file.tensors.items() if name not in parts},
            order=list(file.tensors),
            metadata=file.metadata,
            settings=settings,
        )
        copy_mode(file.path, path)
        journal.finish_file(path)
        for part in parts.values():
            part.unlink()
