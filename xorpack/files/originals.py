"""Small texts of a model directory, config.json and the index, so that decoding gives back the very bytes.

Encoding changes both, and decoding makes them again from what they hold. Where that would give other bytes (another
layout of the JSON, other line ends, an index that holds more), the original lies in the folder
:data:`xorpack.files.model.ORIGINALS` of the encoded directory, and is taken from there as long as it says the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xorpack.errors import FormatError
from xorpack.files import model
from xorpack.files.model import CONFIG, INDEX, ORIGINALS, CheckpointLayout
from xorpack.files.tree import write_instead


@dataclass(frozen=True, slots=True)
class Originals:
    """The small texts of a directory that is to be encoded or decoded, read and checked before anything else.

    Attributes:
        layout: of the directory.
        data: bytes of config.json and of the index, those that there are.
        kept: bytes of those in :data:`ORIGINALS`.
    """

    layout: CheckpointLayout
    data: Mapping[str, bytes]
    kept: Mapping[str, bytes]

    @classmethod
    def of(cls, layout: CheckpointLayout, *, encoded: bool) -> Originals:
        """Read the texts of a plain or of an ``encoded`` directory; of a file, there are none.

        Raises:
            FormatError: one of them is not what its name says, or :data:`ORIGINALS` is taken in a plain one.
        """
        if not layout.is_directory:
            return cls(layout, {}, {})
        originals = layout.root / ORIGINALS
        if not encoded and originals.exists():
            raise FormatError(f"{originals}: encoding needs this name; rename it")
        return cls(layout, _texts(layout.root), _texts(originals))

    def encode(self, to: Path, quantization: Mapping[str, Any], plain_index: str, encoded_index: str) -> None:
        """Write the texts of an encoded directory.

        Args:
            to: the directory.
            quantization: the entry of config.json.
            plain_index: the index that would be made of the source.
            encoded_index: that of what was written.
        """
        if CONFIG in self.data:
            marked = model.mark_config(self._text(CONFIG), quantization)
            write_instead(self.layout.root / CONFIG, to / CONFIG, marked.encode())
            self._keep(CONFIG, to, model.unmark_config(marked))
        if self.layout.weight_map is not None:
            write_instead(self.layout.root / INDEX, to / INDEX, encoded_index.encode())
            self._keep(INDEX, to, plain_index)

    def decode(self, to: Path, plain_index: str) -> None:
        """Write the texts of a decoded directory; ``plain_index`` would be made of what was written."""
        if CONFIG in self.data:
            text = model.unmark_config(self._text(CONFIG))
            write_instead(self.layout.root / CONFIG, to / CONFIG, self._restored(CONFIG, text))
        if self.layout.weight_map is not None:
            write_instead(self.layout.root / INDEX, to / INDEX, self._restored(INDEX, plain_index))

    def _text(self, name: str) -> str:
        return model.decode(self.layout.root / name, self.data[name])

    def _keep(self, name: str, to: Path, text: str) -> None:
        """Keep the original where ``text`` would not give back its bytes."""
        if text.encode() != self.data[name]:
            (to / ORIGINALS).mkdir(exist_ok=True)
            (to / ORIGINALS / name).write_bytes(self.data[name])

    def _restored(self, name: str, text: str) -> bytes:
        """The original if it still says what ``text`` does, which somebody may have changed; else ``text``."""
        if name in self.kept:
            path = self.layout.root / ORIGINALS / name
            kept, now = model.parse_object(path, model.decode(path, self.kept[name])), json.loads(text)
            if kept == now or (name == INDEX and kept.get("weight_map") == now["weight_map"]):
                return self.kept[name]
        return text.encode()


def _texts(folder: Path) -> dict[str, bytes]:
    found = {name: (folder / name).read_bytes() for name in (CONFIG, INDEX) if (folder / name).is_file()}
    for name, data in found.items():
        model.parse_object(folder / name, model.decode(folder / name, data))
    return found
