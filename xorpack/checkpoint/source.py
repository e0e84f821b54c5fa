"""What reading a checkpoint to write another has in common."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from xorpack.errors import FormatError, SourceError
from xorpack.files import container, model
from xorpack.files.destination import check_destination
from xorpack.files.reading import Source
from xorpack.files.safetensors_file import SafetensorsFile, Stored


def find_source(
    source: Path, target: Path, *, overwrite: bool, dry_run: bool = False, others: Iterable[Path] = ()
) -> model.Layout:
    """The files of ``source``, if ``target`` may be written from them and from the checkpoints in ``others``.

    Raises:
        FileNotFoundError, FormatError: ``source`` or another is missing or no checkpoint.
        DestinationError: ``target`` exists, or cannot be written or replaced.
        ParameterError: it lies in what is read, or holds it.
        SourceError: a file that may not be read.
    """
    layouts = [model.find(path) for path in (source, *others)]
    inputs = [path for layout in layouts for path in layout.inputs()]
    check_destination(target, overwrite=overwrite, inputs=inputs, dry_run=dry_run)
    for path in inputs:
        if not os.access(path, os.R_OK):
            raise SourceError(f"{path}: no permission to read it")
    return layouts[0]


def check_unchanged(sources: Iterable[Source]) -> None:
    """Raise SourceError unless all files are what they were: asked when all is read, before the last rename."""
    for source in sources:
        source.check()


def plain_tensors(files: Sequence[SafetensorsFile]) -> dict[str, Stored]:
    """All tensors of the files of a checkpoint that is not encoded.

    Raises:
        FormatError: it is encoded, or a tensor stands in two files.
    """
    tensors: dict[str, Stored] = {}
    for file in files:
        if container.KEY in file.metadata:
            raise FormatError(f"{file.path}: encoded by xorpack already")
        for name, stored in file.tensors.items():
            if name in tensors:
                raise FormatError(
                    f"{file.path}: tensor {name!r} stands in an earlier file too; if the files are models of their "
                    "own, name one of them instead of the directory"
                )
            tensors[name] = stored
    return tensors
