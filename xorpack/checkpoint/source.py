"""What reading a checkpoint to write another has in common."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from xorpack.errors import FormatError, ParameterError, SourceError
from xorpack.files import container, model
from xorpack.files.destination import check_destination
from xorpack.files.reading import SourceFile
from xorpack.files.safetensors_file import SafetensorsFile, StoredTensor

QUANTIZER_CONFIGS = ("quantization_config", "compression_config")
"""Keys of a config.json under which quantizers say what they did."""

QUANTIZER_TENSORS = re.compile(
    r".*\.(qweight|qzeros|g_idx|scales|weight_(packed|scale|scale_inv|zero_point)|SCB|weight\.(absmax|quant_map))"
)


def find_source(
    source: Path, target: Path, *, overwrite: bool, dry_run: bool = False, others: Iterable[Path] = ()
) -> model.CheckpointLayout:
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


def check_unchanged(sources: Iterable[SourceFile]) -> None:
    """Raise SourceError unless all files are what they were: asked when all is read, before the last rename."""
    for source in sources:
        source.check()


def plain_tensors(files: Sequence[SafetensorsFile]) -> dict[str, StoredTensor]:
    """All tensors of the files of a checkpoint that is not encoded.

    Raises:
        FormatError: it is encoded, or a tensor stands in two files.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        if container.is_encoded(file):
            raise FormatError(f"{file.path}: encoded by xorpack already")
        for name, stored in file.tensors.items():
            if name in tensors:
                raise FormatError(
                    f"{file.path}: tensor {name!r} stands in an earlier file too; if the files are models of their "
                    "own, name one of them instead of the directory"
                )
            tensors[name] = stored
    return tensors


def refuse_quantized(layout: model.CheckpointLayout, tensors: Mapping[str, StoredTensor]) -> None:
    """Refuse to lose something of weights that another tool quantized.

    Raises:
        ParameterError: they are, as config.json says, or the names of the tensors.
    """
    if sign := quantized_by(layout, tensors):
        raise ParameterError(
            f"{layout.root} is quantized already ({sign}): what is left in floats, and its scales, would be "
            "approximated once more; --lossless (lossless=True) keeps every bit, and makes 4-bit weights 8 to 15 % "
            "smaller, FP8 ones 16 to 18 %"
        )


def quantized_by(layout: model.CheckpointLayout, tensors: Mapping[str, StoredTensor]) -> str | None:
    """What shows that another tool quantized a checkpoint; None if nothing does."""
    path = layout.root / model.CONFIG
    if layout.is_directory and path.is_file():
        config = model.read_json(path)
        for part in (config, *(value for value in config.values() if isinstance(value, dict))):
            for key in QUANTIZER_CONFIGS:
                if found := part.get(key):
                    method = found.get("quant_method") if isinstance(found, dict) else None
                    return f"{key} of {model.CONFIG}" + ("" if method is None else f": {method}")
    return next((f"tensor {name!r}" for name in tensors if QUANTIZER_TENSORS.fullmatch(name)), None)
