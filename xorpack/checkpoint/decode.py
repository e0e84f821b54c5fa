"""Decode a checkpoint back to plain safetensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from xorpack.checkpoint.cluster import absolute, check_options, executor
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.settings import Progress
from xorpack.checkpoint.source import check_unchanged, find_source
from xorpack.decoders.content import decode_digested
from xorpack.encoded import EncodedTensor
from xorpack.errors import CorruptError, FormatError
from xorpack.files import card, cuts, model, safetensors_file
from xorpack.files.atomic import atomic_directory, atomic_file
from xorpack.files.container import EncodedFile
from xorpack.files.filling import fill, reserve
from xorpack.files.in_file import CarriedInFile, EncodedInFile
from xorpack.files.originals import Originals
from xorpack.files.remote import destination, staged
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.tree import copy_mode, write_instead


def decode_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    max_weights: int | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Decode an encoded file or directory; ``dst`` appears whole or not at all.

    Names, types, order, metadata and all other files are those of the original; a lossless encoding gives back the
    very files, byte for byte. Every checksum is verified.

    Args:
        src: what :func:`encode_checkpoint` wrote, or its URL.
        dst: the file or directory to write, or a URL: what is written there is made in ``TMPDIR`` first.
        jobs: threads.
        overwrite: replace what stands at ``dst``.
        max_weights: see :func:`open_checkpoint`.
        scheduler: address of a dask scheduler whose workers decode instead of threads, see :func:`encode_checkpoint`.
        workers: instead, how many processes to start for that on this machine.
        progress: told of every tensor that is done.

    Returns:
        Bytes of the safetensors files written.

    Raises:
        FileNotFoundError, FormatError: ``src`` is missing, malformed or not encoded.
        CorruptError: bytes or content do not match their checksum.
        ParameterError: ``dst`` holds ``src`` or lies in it.
        DestinationError: ``dst`` exists, cannot be written, or is a directory that looks like no checkpoint.
        SourceError: ``src`` changed while it was read.
        WorkerError: workers are not there, of another version, cannot see ``src`` or ``dst``, or died.
    """
    if check_options(jobs, scheduler, workers):
        src, dst = absolute(src), absolute(dst)
    with ExitStack() as stack:
        source = stack.enter_context(staged(src))
        target, upload = stack.enter_context(destination(dst, src, overwrite=overwrite))
        layout = find_source(source.path, target, overwrite=overwrite)
        originals = Originals.of(layout, encoded=True)
        checkpoint = Checkpoint(source, max_weights=max_weights)
        headers = {file.path: _original_header(file) for file in checkpoint.files}
        paths = [*source.paths, target.parent]
        pool = stack.enter_context(executor(jobs, scheduler, workers, paths=paths))

        def write(file: EncodedFile, path: Path) -> None:
            tasks = list(_tasks(file, path, headers[file.path]))
            for task, _ in zip(tasks, pool.map(decode_into, tasks), strict=True):
                for name, piece in task.pieces.items():
                    if progress is not None and isinstance(piece, EncodedInFile):
                        progress(name, piece.n_weights, checkpoint.n_weights)
            check_unchanged([file.source])  # it may be gone
            copy_mode(file.path, path)

        if layout.is_directory:
            n_bytes = _write_directory(layout, originals, checkpoint, target, write, overwrite=overwrite)
        else:
            with atomic_file(target, overwrite=overwrite) as path:
                write(checkpoint.files[0], path)
                check_unchanged([checkpoint.files[0].source])
            n_bytes = target.stat().st_size
        upload(target)
    return n_bytes


def _write_directory(
    layout: model.CheckpointLayout,
    originals: Originals,
    checkpoint: Checkpoint,
    target: Path,
    write: Callable[[EncodedFile, Path], None],
    *,
    overwrite: bool,
) -> int:
    """Write a directory, each of its files by ``write``; bytes of these."""
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
            order = [cuts.parse(name)[0] for name in file.order] if is_cut(file) else file.order
            weight_map |= dict.fromkeys(order, path.name)
        model.copy_others(layout, directory, skip=[Path(model.CONFIG), Path(card.NAME)])
        readme = layout.root / card.NAME
        text = card.unmark(readme.read_bytes()) if readme.is_file() else None
        if text is not None:
            write_instead(readme, directory / card.NAME, text)
        originals.decode(directory, model.index_text(weight_map, total_size))
        check_unchanged(file.source for file in checkpoint.files)
    return n_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeTask:
    """A tensor to decode into a file; it can be sent to another process.

    Attributes:
        name: of the tensor.
        pieces: what stands for it in the encoded file, by name: itself, or what it was cut into.
        path: of the file, reserved.
        begin: where it begins there.
    """

    name: str
    pieces: Mapping[str, EncodedInFile | CarriedInFile]
    path: Path
    begin: int


def decode_into(task: DecodeTask) -> None:
    """Decode a tensor, check it, write it to its place.

    Raises:
        FormatError, CorruptError: it breaks a rule, or does not match its checksum.
        SourceError: its file changed.
    """
    whole = task.pieces.get(task.name)
    if isinstance(whole, CarriedInFile):
        fill(task.path, task.begin, whole.blocks())
        return
    decoded = {
        name: piece.load() if isinstance(piece, CarriedInFile) else decode_checked(piece.load(), piece.label)
        for name, piece in task.pieces.items()
    }
    stored = decoded[task.name] if whole is not None else cuts.join(decoded)[task.name]
    fill(task.path, task.begin, stored.blocks())


def _tasks(file: EncodedFile, path: Path, header: bytes | None) -> Iterator[DecodeTask]:
    """Reserve the file to write; what there is to write into it."""
    shapes = _shapes(file)
    pieces = cuts.wholes(shapes) if is_cut(file) else {name: [name] for name in shapes}
    wholes = cuts.join_shapes(shapes) if is_cut(file) else shapes
    for name, begin in reserve(path, wholes, file.metadata, header).items():
        held = {one: file.at(one) if one in file else file.carried_at(one) for one in pieces[name]}
        yield DecodeTask(name=name, pieces=held, path=path, begin=begin)


def _shapes(file: EncodedFile) -> cuts.Shapes:
    """Types and shapes of a file's tensors, in the order of the original."""
    described = {name: file.at(name) if name in file else file.carried[name] for name in file.order}
    return {name: (one.dtype, one.shape) for name, one in described.items()}


def is_cut(file: EncodedFile) -> bool:
    """Whether matrices of a file were cut for tensor parallelism."""
    return file.settings.get("cut") is True


def _original_header(file: EncodedFile) -> bytes | None:
    """The header that the original file had, checked, where it is kept."""
    if file.original_header is None:
        return None
    tensors = _shapes(file)
    if is_cut(file):
        tensors = cuts.join_shapes(tensors)
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
        array, found = decode_digested(tensor)
    except FormatError as error:
        raise type(error)(f"{what}: {error}") from None
    if found != tensor.content_sha256:
        raise CorruptError(f"{what}: decoded content does not match its checksum")
    return StoredTensor.of(array)
