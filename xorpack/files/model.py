"""Checkpoints on disk: one safetensors file, or a model directory in the Hugging Face layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xorpack.errors import FormatError

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
CONFIG_KEY = "quantization_config"
METHOD = "xorpack"

GUARD_KEY = "transformers_weights"
GUARD = "encoded by xorpack: run `xorpack decode` first, see README.md"
"""What makes transformers stop: it takes the entry for the name of a file with weights.

With an unknown ``quant_method`` alone, it warns and goes on with random matrices. A quantizer that is registered for
xorpack has to remove the entry from the config that its ``update_attn_implementation`` is given: files are looked for
after that.
"""


@dataclass(frozen=True, slots=True)
class Layout:
    """Files of a checkpoint.

    Attributes:
        root: the file, or the directory.
        shards: the safetensors files that hold the model.
        others: paths of all other files of a directory, relative to ``root``.
        weight_map: the index's map from tensor to shard, where there is an index.
    """

    root: Path
    shards: tuple[Path, ...]
    others: tuple[Path, ...] = ()
    weight_map: Mapping[str, str] | None = None

    @property
    def is_directory(self) -> bool:
        """Whether the checkpoint is a directory."""
        return self.root.is_dir()


def find(root: Path) -> Layout:
    """The files of a checkpoint.

    Raises:
        FileNotFoundError: nothing stands at ``root``.
        FormatError: a directory without safetensors files, or an index that names a missing one.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such file or directory")
    if not root.is_dir():
        return Layout(root, (root,))
    weight_map = _weight_map(root / INDEX) if (root / INDEX).exists() else None
    if weight_map is not None:
        shards = [root / name for name in dict.fromkeys(weight_map.values())]
        for shard in shards:
            if not shard.is_file():
                raise FormatError(f"{root / INDEX} names {shard.name}, which is missing")
    else:
        shards = sorted(path for path in root.glob("*.safetensors") if path.is_file())
    if not shards:
        raise FormatError(f"{root}: a directory without .safetensors files")
    others = sorted(
        path.relative_to(root)
        for path in root.rglob("*")
        if path.is_file() and path not in shards and path != root / INDEX
    )
    return Layout(root, tuple(sorted(shards)), tuple(others), weight_map)


def _weight_map(path: Path) -> dict[str, str]:
    index = read_json(path)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise FormatError(f"{path}: no weight_map of tensor names to file names")
    for name in weight_map.values():
        if Path(name).name != name:
            raise FormatError(f"{path}: {name!r} is not the name of a file beside the index")
    return weight_map


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FormatError: the file is something else.
    """
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path}: not a JSON object")
    return value


def copy_others(layout: Layout, to: Path, *, skip: Iterable[Path] = ()) -> None:
    """Copy a directory's other files unchanged."""
    left_out = set(skip)
    for relative in layout.others:
        if relative not in left_out:
            (to / relative).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(layout.root / relative, to / relative)


def write_index(path: Path, weight_map: Mapping[str, str], total_size: int) -> None:
    """Write an index as the Hugging Face libraries do."""
    document = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


_ORIGINALS = {CONFIG_KEY: "original", GUARD_KEY: "original_weights"}


def mark_config(text: str, quantization: Mapping[str, Any]) -> str:
    """A config.json with ``quantization_config`` added as its last entry, after :data:`GUARD`, the rest unchanged.

    Existing entries (an integer checkpoint's, say) are kept inside the new one, as ``original`` and
    ``original_weights``.

    >>> print(mark_config('{"a": 1}', {"quant_method": "xorpack"}))
    {"a": 1,
      "transformers_weights": "encoded by xorpack: run `xorpack decode` first, see README.md",
      "quantization_config": {
        "quant_method": "xorpack"
      }
    }
    """
    config = json.loads(text)
    originals = {inside: config.pop(key) for key, inside in _ORIGINALS.items() if key in config}
    if originals:
        entry = {GUARD_KEY: GUARD, CONFIG_KEY: {**quantization, **originals}}
        return json.dumps({**config, **entry}, indent=2) + "\n"
    head, _, tail = text.rpartition("}")
    return head.rstrip() + _entry(quantization, first=not config) + "}" + tail


def unmark_config(text: str) -> str:
    """Inverse of :func:`mark_config`."""
    config = json.loads(text)
    quantization = config.pop(CONFIG_KEY, {})
    if not isinstance(quantization, dict) or quantization.get("quant_method") != METHOD:
        return text
    config.pop(GUARD_KEY, None)
    originals = {key: quantization[inside] for key, inside in _ORIGINALS.items() if inside in quantization}
    if originals:
        return json.dumps({**config, **originals}, indent=2) + "\n"
    entry = _entry(quantization, first=not config)
    if text.count(entry) == 1:
        head, _, tail = text.partition(entry)
        return head + ("\n" if "\n" in head else "") + tail
    return json.dumps(config, indent=2) + "\n"


def _entry(quantization: Mapping[str, Any], *, first: bool) -> str:
    body = json.dumps({GUARD_KEY: GUARD, CONFIG_KEY: dict(quantization)}, indent=2)[1:-1]
    return ("" if first else ",") + body
