"""Which matrices of a language model tensor parallelism cuts, and how: as vLLM does."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xorpack.errors import ParameterError
from xorpack.files import cuts, model
from xorpack.files.model import CheckpointLayout
from xorpack.files.safetensors_file import SafetensorsFile

PARALLEL = (
    re.compile(r"(q|k|v|gate|up)_proj|fc1"),
    re.compile(r"(o|out|down)_proj|fc2"),
)
"""Names of linear layers whose outputs are cut, rows of the matrix; and of those whose inputs are, columns."""

HEADS = ("num_attention_heads", "num_key_value_heads")
"""Numbers in config.json that devices share evenly."""


def cut_files(
    layout: CheckpointLayout, files: Sequence[SafetensorsFile], selected: Container[str], n: int
) -> list[SafetensorsFile]:
    """The files of a model with pieces in the place of its selected matrices.

    Args:
        layout: of the model.
        files: its safetensors files.
        selected: names of the tensors to encode.
        n: devices.

    Raises:
        ParameterError: it is no directory of a model, a number of heads is no multiple of ``n``, a selected tensor is
            none that can be cut.
    """
    path = layout.root / model.CONFIG
    if not (layout.is_directory and path.is_file()):
        raise ParameterError(f"{layout.root} is no model directory with a {model.CONFIG}: tp is for those")
    _check_heads(model.read_json(path), n)
    if taken := [name for file in files for name in file.tensors if cuts.parse(name)[1]]:
        raise ParameterError(f"tensor {taken[0]!r} has a name that tp gives to pieces")
    return [replace(file, tensors=_cut(file, selected, n)) for file in files]


def _check_heads(config: Mapping[str, Any], n: int) -> None:
    for part in (config, *(value for value in config.values() if isinstance(value, dict))):
        for key in HEADS:
            heads = part.get(key)
            if isinstance(heads, int) and heads % n:
                raise ParameterError(
                    f"tp = {n}: {key} of {model.CONFIG} is {heads}, which {n} devices cannot share"
                )


def _cut(file: SafetensorsFile, selected: Container[str], n: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, stored in file.tensors.items():
        if name in selected:
            found |= cuts.cut(name, stored, _axis(name), n)
        else:
            found[name] = stored
    return found


def _axis(name: str) -> int:
    layer = name.removesuffix(".weight").rpartition(".")[2]
    for axis, names in enumerate(PARALLEL):
        if name.endswith(".weight") and ".experts." not in name and names.fullmatch(layer):
            return axis
    raise ParameterError(f"tensor {name!r}: tp knows no way to cut it; exclude it, and vLLM cuts it as it is")
