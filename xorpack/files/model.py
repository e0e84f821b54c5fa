"""Checkpoints on disk: one safetensors file, or a model directory in the Hugging Face layout."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xorpack.errors import FormatError, XorpackError
from xorpack.files import container, foreign, safetensors_file
from xorpack.files.safetensors_file import SafetensorsFile
from xorpack.files.tree import REPOSITORY, Tree, copy_file

INDEX = "model.safetensors.index.json"
CONFIG = "config.json"
CONFIG_KEY = "quantization_config"
METHOD = "xorpack"
ORIGINALS = "xorpack_original"
"""A folder of an encoded directory: texts of the original that cannot be made again, :mod:`xorpack.files.originals`."""

_SHARD = re.compile(r"(.+)-\d+(-of-\d+)\.safetensors")

_log = logging.getLogger(__name__)

GUARD_KEY = "transformers_weights"
GUARD = "encoded by xorpack: `import xorpack.hf` first, see README.md"
"""What makes transformers stop where :mod:`xorpack.hf` is not imported: it takes the entry for the name of a file.

With an unknown ``quant_method`` alone, it warns and goes on with random matrices. The quantizer that is registered for
xorpack removes the entry from the config that its ``update_attn_implementation`` is given: files are looked for
after that.
"""


@dataclass(frozen=True, slots=True)
class CheckpointLayout:
    """Files of a checkpoint.

    Attributes:
        root: the file, or the directory.
        shards: the safetensors files that hold the model.
        tree: what else a directory holds, but for the index and :data:`ORIGINALS`.
        weight_map: the index's map from tensor to shard, where there is an index.
    """

    root: Path
    shards: tuple[Path, ...]
    tree: Tree = field(default_factory=Tree)
    weight_map: Mapping[str, str] | None = None

    @property
    def is_directory(self) -> bool:
        """Whether the checkpoint is a directory."""
        return self.root.is_dir()

    def inputs(self) -> Iterator[Path]:
        """Everything that is read: the root, and all files, which may be links to elsewhere."""
        yield self.root
        if self.is_directory:
            yield from self.shards
            yield from (self.root / path for path in (*self.tree.files, *self.tree.folders))
            if self.weight_map is not None:
                yield self.root / INDEX

    def open(self) -> list[SafetensorsFile]:
        """All shards, opened, their headers checked, and that the index agrees with them.

        Raises:
            FormatError: a shard is malformed, or the index disagrees.
        """
        files = [safetensors_file.read(shard) for shard in self.shards]
        self.check_index({file.path: file.tensors for file in files})
        return files

    def check_index(self, stored: Mapping[Path, Iterable[str]]) -> None:
        """Raise FormatError unless the index, if there is one, names exactly what stands in each shard."""
        if self.weight_map is None:
            return
        index = self.root / INDEX
        left = dict(self.weight_map)
        for shard, names in stored.items():
            for name in names:
                named = left.pop(name, self.weight_map.get(name))
                if named is None:
                    raise FormatError(f"{index}: does not name tensor {name!r}, which stands in {shard.name}")
                if named != shard.name:
                    raise FormatError(f"{index}: tensor {name!r} stands in {shard.name}, not in {named}")
        for name, named in left.items():
            raise FormatError(f"{index}: names tensor {name!r} in {named}, which does not hold it")


def find(root: Path) -> CheckpointLayout:
    """The files of a checkpoint.

    Raises:
        FileNotFoundError: nothing stands at ``root``.
        FormatError: a directory without safetensors files, an index that names a missing one or passes one over.
    """
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such file or directory")
    if not root.is_dir():
        return CheckpointLayout(root, (root,))
    weight_map = _weight_map(root / INDEX) if (root / INDEX).exists() else None
    top = {path.name for path in root.glob("*.safetensors") if path.is_file()}
    if weight_map is not None:
        shards = set(weight_map.values())
        for name in sorted(shards - top):
            if not (root / name).is_file():
                raise FormatError(f"{root / INDEX} names {name}, which is missing")
    else:
        shards = {name for name in top if not foreign.is_variant(name, top)}
        shards = {name for name in shards if not foreign.is_twin(name)} or shards
    if not shards:
        instead = foreign.instead_of_weights(root)
        raise FormatError(f"{root}: a directory without .safetensors files{instead and ': ' + instead}")
    tree = _other_files(root, shards, passed_over=top - shards, indexed=weight_map is not None)
    return CheckpointLayout(root, tuple(root / name for name in sorted(shards)), tree, weight_map)


def _other_files(root: Path, shards: set[str], *, passed_over: set[str], indexed: bool) -> Tree:
    families = {_family(name) for name in shards if _SHARD.fullmatch(name)}

    def left_out(path: Path) -> str:
        name = path.name
        if path.parent != Path():
            return ""
        if name in passed_over:
            if indexed and (_family(name) in families or is_encoded(root / name)):
                raise FormatError(f"{root / INDEX}: names no tensor of {name}, which lies beside it")
            return "not one of the files that hold the model; encode it on its own"
        return "the same model in another format" if foreign.is_twin(name) else ""

    tree = Tree.of(root)
    mine = {Path(name) for name in (*shards, *([INDEX] if indexed else []))}
    tree.files = [path for path in tree.files if path not in mine and path.parts[0] != ORIGINALS]
    tree.folders = [path for path in tree.folders if path.parts[0] != ORIGINALS]
    for path in mine & tree.links.keys():
        tree.left_out[path] = f"the link to {tree.links.pop(path)}, in whose place a file is written"
    tree.remove(left_out)
    return tree


def _family(name: str) -> str:
    found = _SHARD.fullmatch(name)
    return found[1] if found else name


def is_encoded(path: Path) -> bool:
    """Whether a file is a well-formed safetensors file that xorpack encoded."""
    try:
        return container.is_encoded(safetensors_file.read(path))
    except (XorpackError, OSError):
        return False


def looks_like_checkpoint(root: Path) -> str:
    """Why a directory does not look like a checkpoint, so that it must not be replaced; "" if it does.

    It does if it is empty; if it has safetensors files at its top, well-formed ones, beside a ``config.json`` or an
    index, or beside nothing that is not safetensors, or one that xorpack encoded; and if it is not a repository.
    """
    entries = sorted(root.iterdir())
    if any(entry.name == REPOSITORY for entry in entries):
        return f"it holds {REPOSITORY}"
    weights = [entry for entry in entries if entry.suffix == ".safetensors" and entry.is_file()]
    if entries and not weights:
        return f"it holds {entries[0].name} and no .safetensors files"
    for path in weights:
        try:
            safetensors_file.read(path)
        except (XorpackError, OSError) as error:
            return str(error)
    names = {entry.name for entry in entries}
    plain = len(weights) < len(entries) and not any(is_encoded(path) for path in weights)
    if plain and not names & {CONFIG, INDEX}:
        return f"it holds {min(names - {path.name for path in weights})}, but neither {CONFIG} nor an index"
    return ""


def _weight_map(path: Path) -> dict[str, str]:
    index = parse_object(path, decode(path, path.read_bytes()), safetensors_file.parse_json)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(v, str) for v in weight_map.values()):
        raise FormatError(f"{path}: no weight_map of tensor names to file names")
    for name in weight_map.values():
        if Path(name).name != name:
            raise FormatError(f"{path}: {name!r} is not the name of a file beside the index")
    return weight_map


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, as :func:`decode` takes it.

    Raises:
        FormatError: the file is something else.
    """
    return parse_object(path, decode(path, path.read_bytes()))


def decode(path: Path, data: bytes) -> str:
    """The text of the JSON file ``path``: UTF-8, UTF-16 or UTF-32; a byte-order mark is left out.

    Raises:
        FormatError: it is something else.
    """
    try:
        return data.decode(json.detect_encoding(data))
    except ValueError as error:
        raise FormatError(f"{path}: not JSON: {error}") from None


def parse_object(path: Path, text: str, parse: Callable[[str], Any] = json.loads) -> dict[str, Any]:
    """The JSON object that ``text``, of the file ``path``, holds.

    Raises:
        FormatError: it is something else.
    """
    try:
        value = parse(text)
    except (ValueError, RecursionError) as error:
        problem = foreign.recognise(path) or f"not JSON: {error}"
        raise FormatError(f"{path}: {problem}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{path}: not a JSON object")
    return value


def copy_others(layout: CheckpointLayout, to: Path, *, skip: Iterable[Path] = ()) -> None:
    """Copy what else a directory holds, and say what is left out."""
    left_out, tree, root = set(skip), layout.tree, layout.root
    for folder in tree.folders:
        (to / folder).mkdir(exist_ok=True)
    for path in tree.files:
        if path not in left_out:
            copy_file(root / path, to / path)
            if foreign.is_pointer(to / path):
                _log.warning(
                    "note: %s is a Git LFS pointer and copied as one; `git lfs pull` fetches it", root / path
                )
    for path, link in tree.links.items():
        os.symlink(link, to / path)
    for path, reason in tree.left_out.items():
        _log.warning("note: left out %s: %s", root / path, reason)


def index_text(weight_map: Mapping[str, str], total_size: int) -> str:
    """An index as the Hugging Face libraries write it."""
    document = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(weight_map.items()))}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


_ORIGINALS = {CONFIG_KEY: "original", GUARD_KEY: "original_weights"}


def mark_config(text: str, quantization: Mapping[str, Any]) -> str:
    """A config.json with ``quantization_config`` added as its last entry, after :data:`GUARD`, the rest unchanged.

    Existing entries (an integer checkpoint's, say) are kept inside the new one, as ``original`` and
    ``original_weights``.

    >>> print(mark_config('{"a": 1}', {"quant_method": "xorpack"}))
    {"a": 1,
      "transformers_weights": "encoded by xorpack: `import xorpack.hf` first, see README.md",
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


def guard_config(text: str) -> str:
    """The config.json of an encoded directory with :data:`GUARD`, which transformers takes out where it saves one."""
    config = json.loads(text)
    entry = {GUARD_KEY: GUARD, CONFIG_KEY: config.pop(CONFIG_KEY)}
    return json.dumps({**config, **entry}, indent=2) + "\n"


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
