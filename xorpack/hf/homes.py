"""Where in a model each encoded tensor of its files belongs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from xorpack.encoded import SECTIONS
from xorpack.errors import FormatError, MismatchError
from xorpack.files import safetensors_file
from xorpack.files.container import EncodedFile, open_files
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.selection import pattern_of
from xorpack.hf.config import XorpackConfig

UNSEEN = 5
"""Names that an error gives at the most."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded tensor of a file, of which nothing but the header was read.

    Attributes:
        name: in the file.
        file: that holds it.
    """

    name: str
    file: EncodedFile

    @property
    def record(self) -> dict[str, Any]:
        """Its parameters."""
        return self.file.records[self.name]

    def sections(self) -> dict[str, StoredTensor]:
        """Its sections but the record, as they stand in the file."""
        keys = {section: f"{self.name}.xor_{section}" for section in SECTIONS}
        return {
            section: self.file.sections[key] for section, key in keys.items() if key in self.file.sections
        }


@dataclass(slots=True)
class Homes:
    """Homes of encoded tensors.

    Attributes:
        direct: by the name of the model's parameter that a tensor is.
        merged: of each parameter that transformers makes of several tensors, by the parameter's name and the pattern
            that matched their names: them in the order that they are read in, None for those that are not encoded.
        homeless: names of those that the model has no place for.
    """

    direct: dict[str, Encoded] = field(default_factory=dict)
    merged: dict[tuple[str, str], list[Encoded | None]] = field(default_factory=dict)
    homeless: list[str] = field(default_factory=list)


def read_files(paths: Sequence[str | Path]) -> dict[str, Encoded | None]:
    """All tensors of a checkpoint's files by name, None for those that are not encoded.

    Raises:
        FormatError: none is encoded, or a file's header is malformed, sections stand there without their record.
    """
    found: dict[str, Encoded | None] = {}
    for file in open_files([safetensors_file.read(Path(path)) for path in paths]):
        found |= dict.fromkeys(file.carried) | {name: Encoded(name, file) for name in file}
    return found


def find_homes(model: Any, tensors: Mapping[str, Encoded | None], conversions: Sequence[Any]) -> Homes:
    """The home of each encoded tensor, by the very rules that transformers loads tensors by.

    Args:
        model: with parameters on the meta device.
        tensors: all of the files.
        conversions: the model's renamings and converters.
    """
    renamings = [c for c in conversions if isinstance(c, WeightRenaming)]
    converters = [c for c in conversions if isinstance(c, WeightConverter)]
    parameters = dict(model.named_parameters(remove_duplicate=False))
    homes = Homes()
    for name in sorted(tensors, key=dot_natural_key):
        tensor = tensors[name]
        target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, parameters)
        if target not in parameters and name in parameters:
            target, pattern = name, None
        if target in parameters and pattern is not None:
            homes.merged.setdefault((target, pattern), []).append(tensor)
        elif target in parameters and tensor is not None:
            homes.direct[target] = tensor
        elif tensor is not None:
            homes.homeless.append(name)
    return homes


def check_complete(found: Collection[str], config: XorpackConfig) -> None:
    """Raise FormatError unless the encoded tensors of a directory are as many as it was written with."""
    if len(found) == config.n_encoded or (found and config.n_encoded is None):
        return
    seen = {*found, *map(pattern_of, found)}
    lost = [pattern for pattern in config.encoded if pattern not in seen]
    said = "some" if config.n_encoded is None else config.n_encoded
    raise FormatError(
        f"config.json says that {said} tensors are encoded, and the files hold {len(found)}"
        + (f", none called {', '.join(map(repr, lost[:UNSEEN]))}" if lost else "")
        + ": they were lost or renamed; copy the directory anew"
    )


def check_homes(model: Any, homes: Homes, n_found: int) -> None:
    """Raise MismatchError unless every encoded tensor has a home, or is a head that this class lacks on purpose.

    Args:
        model: the model.
        homes: of its files' tensors.
        n_found: all encoded tensors.
    """
    kind = type(model).__name__
    architectures = getattr(model.config, "architectures", None) or []
    inner = [name for name in homes.homeless if kind in architectures or not _is_head(model, name)]
    if inner or (homes.homeless and len(homes.homeless) == n_found):
        shown = ", ".join(map(repr, sorted(inner or homes.homeless)[:UNSEEN]))
        raise MismatchError(
            f"{kind} has no place for {len(homes.homeless)} of {n_found} encoded tensors: {shown}; config.json names "
            f"{', '.join(architectures) or 'no architecture'}: load it with that class"
        )


def _is_head(model: Any, name: str) -> bool:
    """Whether a tensor belongs to a part that the model does not have at all."""
    prefix = model.base_model_prefix
    first = name.removeprefix(f"{prefix}.").partition(".")[0] if prefix else name.partition(".")[0]
    inside = getattr(model, prefix, model) if prefix else model
    return not hasattr(model, first) and not hasattr(inside, first)
