"""Decode a checkpoint back to plain safetensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xorpack import checks
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.settings import Progress
from xorpack.checkpoint.source import check_unchanged, find_source
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor
from xorpack.errors import CorruptError, FormatError
from xorpack.files import card, model, safetensors_file
from xorpack.files.atomic import atomic_directory, atomic_file
from xorpack.files.container import EncodedFile
from xorpack.files.originals import Originals
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.tree import copy_mode, write_instead


def decode_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    max_weights: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Decode an encoded file or directory; ``dst`` appears whole or not at all.

    Names, types, order, metadata and all other files are those of the original; a lossless encoding gives back the
    very files, byte for byte. Every checksum is verified.

    Args:
        src: what :func:`encode_checkpoint` wrote.
        dst: the file or directory to write.
        jobs: threads.
        overwrite: replace what stands at ``dst``.
        max_weights: see :func:`open_checkpoint`.
        progress: told of every tensor that is done.

    Returns:
        Bytes of the safetensors files written.

    Raises:
        FileNotFoundError, FormatError: ``src`` is missing, malformed or not encoded.
        CorruptError: bytes or content do not match their checksum.
        ParameterError: ``dst`` holds ``src`` or lies in it.
        DestinationError: ``dst`` exists, cannot be written, or is a directory that looks like no checkpoint.
        SourceError: ``src`` changed while it was read.
    """
    checks.whole("jobs", jobs, 1)
    source, target = Path(src), Path(dst)
    layout = find_source(source, target, overwrite=overwrite)
    originals = Originals.of(layout, encoded=True)
    checkpoint = Checkpoint(source, max_weights=max_weights)
    headers = {file.path: _original_header(file) for file in checkpoint.files}

    def write(file: EncodedFile, path: Path) -> None:
        def one(name: str) -> StoredTensor:
            if name in file.carried:
                return file.carried[name]
            tensor = file[name]
            stored = decode_checked(tensor, f"{file.path}: tensor {name!r}")
            if progress is not None:
                progress(name, tensor.n_weights, checkpoint.n_weights)
            return stored

        with ThreadPoolExecutor(jobs) as pool:
            tensors = dict(zip(file.order, pool.map(one, file.order), strict=True))
        header = headers[file.path] or safetensors_file.header_bytes(tensors, file.metadata)
        written = safetensors_file.write(path, tensors, header, digest=file.carried.keys())
        for name, sha256 in written.items():
            file.check_carried(name, sha256)
        copy_mode(file.path, path)

    if not layout.is_directory:
        with atomic_file(target, overwrite=overwrite) as path:
            write(checkpoint.files[0], path)
            check_unchanged([checkpoint.files[0].source])
        return target.stat().st_size
    n_bytes = total_size = 0
    with atomic_directory(target, overwrite=overwrite) as directory:
        weight_map: dict[str, str] = {}
        for file in checkpoint.files:
            if not (file.order or file.sealed):
                continue  # nothing but sections of other files' tensors
            path = directory / file.path.name
            write(file, path)
            n_bytes += path.stat().st_size
            total_size += sum(stored.n_bytes for stored in safetensors_file.read(path).tensors.values())
            weight_map |= dict.fromkeys(file.order, file.path.name)
        model.copy_others(layout, directory, skip=[Path(model.CONFIG), Path(card.NAME)])
        readme = layout.root / card.NAME
        text = card.unmark(readme.read_bytes()) if readme.is_file() else None
        if text is not None:
            write_instead(readme, directory / card.NAME, text)
        originals.decode(directory, model.index_text(weight_map, total_size))
        check_unchanged(file.source for file in checkpoint.files)
    return n_bytes


def _original_header(file: EncodedFile) -> bytes | None:
    """The header that the original file had, checked, where it is kept."""
    if file.original_header is None:
        return None
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in file.order:
        record, carried = file.records.get(name), file.carried.get(name)
        if record is not None:
            tensors[name] = record["dtype"], tuple(record["shape"])
        elif carried is not None:
            tensors[name] = carried.dtype, carried.shape
    try:
        return safetensors_file.restored_header(file.original_header, tensors)
    except FormatError as error:
        raise FormatError(f"{file.path}: {error}") from None


def decode_checked(tensor: EncodedTensor, what: str) -> StoredTensor:
    """Decode one tensor, called ``what`` in messages, and compare it with its content checksum.

    Raises:
        CorruptError: they differ.
    """
    try:
        array = cpu.decode_dense(tensor)
    except FormatError as error:
        raise type(error)(f"{what}: {error}") from None
    if cpu.content_sha256(tensor, iter([array])) != tensor.content_sha256:
        raise CorruptError(f"{what}: decoded content does not match its checksum")
    return StoredTensor.of(array)
