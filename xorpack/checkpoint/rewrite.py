"""Write an encoded directory anew, with some of its tensors in the place of what they were."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.source import check_unchanged
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError
from xorpack.files import container, model
from xorpack.files.atomic import atomic_directory
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.tree import copy_file, copy_mode


def check_sealed(checkpoint: Checkpoint) -> None:
    """Raise FormatError unless all files have their documents, so that all of them can be checked and written anew."""
    for file in checkpoint.rewritten:
        raise FormatError(
            f"{file.path}: another tool rewrote its header, so that carried tensors have no checksums: encode it anew"
        )


def rewrite_checkpoint(
    checkpoint: Checkpoint,
    target: Path,
    encoded: Mapping[str, EncodedTensor],
    carried: Mapping[str, StoredTensor],
    *,
    overwrite: bool = False,
) -> None:
    """Write an encoded directory with other tensors of the same names and shapes; all else is copied.

    Args:
        checkpoint: what is read, sealed.
        target: the directory to write; it appears whole or not at all.
        encoded, carried: what takes the place of tensors of these names.
        overwrite: replace what stands at ``target``.

    Raises:
        CorruptError: bytes do not match their checksum.
        DestinationError: ``target`` exists, cannot be written, or is a directory that looks like no checkpoint.
        SourceError: a file changed while it was read.
    """
    layout = checkpoint.layout
    with atomic_directory(target, overwrite=overwrite) as directory:
        n_bytes = 0
        for file in checkpoint.files:
            path = directory / file.path.name
            n_bytes += _rewrite(file, path, encoded, carried)
            copy_mode(file.path, path)
        model.copy_others(layout, directory)
        if layout.weight_map is not None:
            (directory / model.INDEX).write_text(
                model.index_text(layout.weight_map, n_bytes), encoding="utf-8"
            )
        for name in (model.CONFIG, model.INDEX):
            if (kept := layout.root / model.ORIGINALS / name).is_file():
                (directory / model.ORIGINALS).mkdir(exist_ok=True)
                copy_file(kept, directory / model.ORIGINALS / name)
        check_unchanged(file.source for file in checkpoint.files)


def _rewrite(
    file: EncodedFile, path: Path, encoded: Mapping[str, EncodedTensor], carried: Mapping[str, StoredTensor]
) -> int:
    """Write one file; bytes of its tensors."""
    settings = dict(file.settings)
    if file.original_header is not None:
        settings[container.ORIGINAL_HEADER] = file.original_header
    container.write(
        path,
        {name: encoded.get(name) or file[name] for name in file},
        {**file.carried, **{name: stored for name, stored in carried.items() if name in file.carried}},
        order=file.order,
        metadata=file.metadata,
        settings=settings,
    )
    written = EncodedFile(path)
    for name in file.carried.keys() - carried.keys():
        file.carried_at(name).check(written.carried_sha256[name])
    return sum(stored.n_bytes for stored in written.stored.values())
