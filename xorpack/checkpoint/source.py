"""What reading a checkpoint to write another has in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xorpack.errors import FormatError, ParameterError
from xorpack.files import container, model
from xorpack.files.atomic import check_destination
from xorpack.files.safetensors_file import SafetensorsFile, Stored


def find_source(source: Path, target: Path, *, overwrite: bool, dry_run: bool = False) -> model.Layout:
    """The files of ``source``, if ``target`` may be written from them.

    Raises:
        FileNotFoundError, FormatError: ``source`` is missing or no checkpoint.
        DestinationError: ``target`` exists or cannot be written.
        ParameterError: it lies in ``source``.
    """
    layout = model.find(source)
    if not dry_run:
        check_destination(target, overwrite=overwrite)
    if target.resolve() == source.resolve() or source.resolve() in target.resolve().parents:
        raise ParameterError(f"destination {target} lies in the source {source}")
    return layout


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
                raise FormatError(f"{file.path}: tensor {name!r} stands in an earlier file too")
            tensors[name] = stored
    return tensors
