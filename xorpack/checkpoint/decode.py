"""Decode a checkpoint back to plain safetensors."""

from __future__ import annotations

import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xorpack import checks
from xorpack.checkpoint.encode import Progress
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.source import find_source
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor, blocks_sha256
from xorpack.errors import CorruptError, FormatError
from xorpack.files import card, model, safetensors_file
from xorpack.files.atomic import atomic_directory, atomic_file
from xorpack.files.container import EncodedFile
from xorpack.files.safetensors_file import Stored


def decode_checkpoint(
    src: str | Path,
    dst: str | Path,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> int:
    """Decode an encoded file or directory; ``dst`` appears whole or not at all.

    Names, types, order and metadata are those of the original; a lossless encoding of a file that the
    safetensors library wrote gives back that file, byte for byte. Every checksum is verified.

    Args:
        src: what :func:`encode_checkpoint` wrote.
        dst: the file or directory to write.
        jobs: threads.
        overwrite: replace what stands at ``dst``.
        progress: told of every tensor that is done.

    Returns:
        Bytes of the safetensors files written.

    Raises:
        FileNotFoundError, FormatError: ``src`` is missing, malformed or not encoded.
        CorruptError: bytes or content do not match their checksum.
        DestinationError: ``dst`` exists or cannot be written.
    """
    checks.whole("jobs", jobs, 1)
    source, target = Path(src), Path(dst)
    find_source(source, target, overwrite=overwrite)
    checkpoint = Checkpoint(source)
    n_weights = sum(math.prod(r["shape"]) for file in checkpoint.files for r in file.records.values())

    def write(file: EncodedFile, path: Path) -> None:
        def one(name: str) -> Stored:
            if name in file.carried:
                return file.load_carried(name)
            tensor = file[name]
            stored = decode_checked(tensor, f"{file.path}: tensor {name!r}")
            if progress is not None:
                progress(name, tensor.n_weights, n_weights)
            return stored

        with ThreadPoolExecutor(jobs) as pool:
            tensors = dict(zip(file.order, pool.map(one, file.order), strict=True))
        safetensors_file.write(path, tensors, safetensors_file.header_bytes(tensors, file.metadata))

    if not checkpoint.layout.is_directory:
        with atomic_file(target, overwrite=overwrite) as path:
            write(checkpoint.files[0], path)
        return target.stat().st_size
    n_bytes = 0
    with atomic_directory(target, overwrite=overwrite) as directory:
        weight_map: dict[str, str] = {}
        for file in checkpoint.files:
            path = directory / file.path.name
            write(file, path)
            n_bytes += path.stat().st_size
            weight_map |= dict.fromkeys(file.order, file.path.name)
        if checkpoint.layout.weight_map is not None:
            data = (safetensors_file.read(directory / file.path.name) for file in checkpoint.files)
            total_size = sum(stored.data.size for file in data for stored in file.tensors.values())
            model.write_index(directory / model.INDEX, weight_map, total_size)
        model.copy_others(checkpoint.layout, directory, skip=[Path(model.CONFIG), Path(card.NAME)])
        readme = checkpoint.layout.root / card.NAME
        text = card.unmark(readme.read_bytes()) if readme.is_file() else None
        if text is not None:
            (directory / card.NAME).write_bytes(text)
            shutil.copymode(readme, directory / card.NAME)
        config = checkpoint.layout.root / model.CONFIG
        if config.is_file():
            model.read_json(config)
            plain = model.unmark_config(config.read_text(encoding="utf-8"))
            (directory / model.CONFIG).write_text(plain, encoding="utf-8")
    return n_bytes


def decode_checked(tensor: EncodedTensor, what: str) -> Stored:
    """Decode one tensor, called ``what`` in messages, and compare it with its content checksum.

    Raises:
        CorruptError: they differ.
    """
    try:
        array = cpu.decode_dense(tensor)
    except FormatError as error:
        raise type(error)(f"{what}: {error}") from None
    if blocks_sha256(iter([array])) != tensor.content_sha256:
        raise CorruptError(f"{what}: decoded content does not match its checksum")
    return Stored.of(array)
