"""Which tensors of an encoded directory each layer of vLLM is made of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xorpack.encoded import SECTIONS
from xorpack.errors import FormatError
from xorpack.files import cuts, model
from xorpack.files.container import EncodedFile, open_files
from xorpack.files.selection import left_out

SHOWN = 5
"""Names that a message gives at the most."""

_BASE = "model."
"""What vLLM's names of a causal model begin with, and a file of the model without its head does not."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NamedTensor:
    """A tensor of a file, of which nothing but the header was read.

    Attributes:
        name: in the file.
        shape: of the tensor, decoded.
        record: of an encoded tensor; None of one that is carried.
        sections: of an encoded tensor, that come as tensors: ``code`` and so on.
        pieces: that it is cut into, for a device each; of such a tensor, record and sections are those of the first.
        axis: that it is cut along: 0, its rows, or 1.
    """

    name: str
    shape: tuple[int, ...]
    record: Mapping[str, Any] | None = None
    sections: frozenset[str] = frozenset()
    pieces: tuple[NamedTensor, ...] = ()
    axis: int = 0


@dataclass(slots=True)
class Names:
    """The tensors of a directory by their names in vLLM.

    Attributes:
        parts: all of them.
        used: names in the file of the encoded ones that a layer has taken.
        lost: names of layers that no tensor was found for.
    """

    parts: dict[str, NamedTensor]
    used: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)

    def rename(self, rule: Callable[[str], str | None]) -> None:
        """Let names be those that a rule of vLLM makes of them; None is one that vLLM does not load."""
        renamed = ((rule(name), part) for name, part in self.parts.items())
        self.parts = {name: part for name, part in renamed if name is not None}

    def of_layer(self, prefix: str, packing: Mapping[str, Sequence[str]]) -> list[NamedTensor] | None:
        """What a linear layer is made of, one below the other; None if all of that is carried, or nothing was found.

        Args:
            prefix: the layer's name in vLLM.
            packing: by the last component of the names of fused layers, those of their parts.

        Raises:
            FormatError: of a fused layer, some parts are encoded and others are not in the files.
        """
        parent, dot, leaf = prefix.rpartition(".")
        whole = self._find(f"{prefix}.weight")
        names = [leaf] if whole else packing.get(leaf, [leaf])
        found = {f"{parent}{dot}{name}.weight": self._find(f"{parent}{dot}{name}.weight") for name in names}
        parts = [part for part in found.values() if part is not None]
        if len(parts) < len(found):
            if any(part.record for part in parts):
                absent = ", ".join(repr(name) for name, part in found.items() if part is None)
                raise FormatError(
                    f"layer {prefix!r}: parts of it are encoded, and the files do not hold {absent}"
                )
            self.lost.append(prefix)
        return self._taken(parts)

    def of_vocabulary(self, prefix: str, shape: tuple[int, int], *, head: bool) -> NamedTensor | None:
        """The table of an embedding, or the matrix of a head, if it is encoded.

        Embeddings may have no name in vLLM: then it is the one encoded tensor of their shape that is named as such.

        Raises:
            FormatError: there are several.
        """
        if part := self._find(f"{prefix}.weight"):
            return part if self._taken([part]) else None
        kind = "head" if head else "embedding"
        fitting = [
            part
            for part in self.parts.values()
            if part.record and part.shape == shape and left_out(part.name, shape) == kind
        ]
        if len(fitting) > 1:
            raise FormatError(
                f"layer {prefix!r}: its {kind} may be {_listed(part.name for part in fitting)}; vLLM does not say which"
            )
        self._taken(fitting)
        return fitting[0] if fitting else None

    def inside(self, prefix: str) -> list[str]:
        """Names in the file of encoded tensors inside a module."""
        return [p.name for name, p in self.parts.items() if p.record and name.startswith(f"{prefix}.")]

    def check_homes(self) -> None:
        """Raise unless layers without tensors and encoded tensors without a layer are two different matters.

        Raises:
            FormatError: a layer would be left with whatever stood in its memory.
        """
        homeless = [part.name for part in self.parts.values() if part.record and part.name not in self.used]
        if homeless and self.lost:
            raise FormatError(
                f"{len(homeless)} encoded tensors belong to no layer of vLLM's model, {_listed(homeless)}, and for "
                f"{len(self.lost)} of its layers there is no tensor, {_listed(self.lost)}: names of the files are not "
                f"those of this model; decode the directory with `xorpack decode`"
            )
        if homeless:
            _log.warning("xorpack: %d encoded tensors are not used: %s", len(homeless), _listed(homeless))

    def _find(self, name: str) -> NamedTensor | None:
        other = name.removeprefix(_BASE) if name.startswith(_BASE) else _BASE + name
        return self.parts.get(name) or self.parts.get(other)

    def _taken(self, parts: list[NamedTensor]) -> list[NamedTensor] | None:
        encoded = {part.name for part in parts if part.record}
        self.used |= encoded
        return parts if encoded else None


def read(directory: Path, n_encoded: int | None = None) -> Names:
    """The tensors of a directory by their names there; no more than the headers of its files is read.

    Args:
        directory: encoded, of any format version.
        n_encoded: tensors that it was written with, where config.json counts them.

    Raises:
        FormatError: a header is malformed, the index disagrees, nothing is encoded, or not all that was.
    """
    parts: dict[str, NamedTensor] = {}
    for file in open_files(model.find(directory).open()):
        parts |= {name: NamedTensor(name, tuple(stored.shape)) for name, stored in file.carried.items()}
        parts |= {name: _encoded(name, file) for name in file}
    found = sum(part.record is not None for part in parts.values())
    parts = _with_wholes(parts)
    if n_encoded is not None and n_encoded != found:
        raise FormatError(
            f"{directory}: config.json says that {n_encoded} tensors are encoded, and the files hold {found}: sections "
            f"were lost; copy the directory anew"
        )
    return Names(parts)


def _encoded(name: str, file: EncodedFile) -> NamedTensor:
    sections = frozenset(section for section in SECTIONS if f"{name}.xor_{section}" in file.sections)
    return NamedTensor(name, tuple(file.records[name]["shape"]), file.records[name], sections)


def _with_wholes(parts: Mapping[str, NamedTensor]) -> dict[str, NamedTensor]:
    """Tensors with wholes in the place of pieces that were cut for tensor parallelism.

    Raises:
        FormatError: pieces are missing, or do not fit.
    """
    encoded = {name: ("", part.shape) for name, part in parts.items() if part.record}
    found = {name: part for name, part in parts.items() if not part.record}
    shapes = cuts.join_shapes(encoded)
    for name, pieces in cuts.wholes(encoded).items():
        first = parts[pieces[0]]
        _, cut = cuts.parse(first.name)
        whole = replace(first, name=name, shape=shapes[name][1])
        found[name] = (
            first
            if cut is None
            else replace(whole, pieces=tuple(map(parts.__getitem__, pieces)), axis=cut.axis)
        )
    return found


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return ", ".join(map(repr, found[:SHOWN])) + more
