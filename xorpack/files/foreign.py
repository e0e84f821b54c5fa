"""What people have in place of a safetensors checkpoint, and what they can do about it."""

from __future__ import annotations

import re
from pathlib import Path

_POINTER = b"version https://git-lfs.github.com/spec/"

_PICKLE = (
    "a PyTorch file (a pickle), not safetensors: load it with torch.load(FILE, weights_only=True) and save it with "
    "safetensors.torch.save_file, or the model with save_pretrained(DIR, safe_serialization=True)"
)

_BEGINNINGS = {
    _POINTER: "a Git LFS pointer that stands for the file: fetch the file itself with `git lfs pull`",
    b"PK\x03\x04": _PICKLE,
    b"\x80\x02": _PICKLE,
    b"GGUF": "a GGUF file, not safetensors: take the checkpoint that it was made from",
    b"\x89HDF": "an HDF5 file, not safetensors: save the model with safe_serialization=True",
}

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
"""How names of PyTorch's own files end."""

PIPELINE = "model_index.json"
"""What makes a directory a pipeline of the diffusers library, whose models lie in folders of their own."""

_TWINS = re.compile(
    r"pytorch_model.*\.bin(\.index\.json)? | consolidated.*\.(safetensors|pth|pt) | tf_model.*\.h5(\.index\.json)?"
    r"| flax_model.*\.msgpack(\.index\.json)? | rust_model\.ot",
    re.VERBOSE,
)


def recognise(path: Path) -> str:
    """What a file is that is not safetensors, and what to do; "" where nothing is known.

    Raises:
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        beginning = file.read(64)
    for magic, what in _BEGINNINGS.items():
        # Eight bytes that begin so could be the length of a header: only if it were far too long are they none.
        if beginning.startswith(magic) and not (len(magic) < 8 and beginning[8:9] == b"{"):
            return what
    return ""


def is_pointer(path: Path) -> bool:
    """Whether a file is a Git LFS pointer."""
    with open(path, "rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def is_twin(name: str) -> bool:
    """Whether a file that lies beside a model's safetensors files is usually the same model again.

    >>> is_twin("pytorch_model-00001-of-00002.bin"), is_twin("training_args.bin")
    (True, False)
    """
    return _TWINS.fullmatch(name) is not None


def is_variant(name: str, names: set[str]) -> bool:
    """Whether a safetensors file is a variant of another, as ``model.fp16.safetensors`` is of ``model.safetensors``."""
    parts = name.split(".")
    return len(parts) == 3 and f"{parts[0]}.{parts[2]}" in names


def instead_of_weights(root: Path) -> str:
    """What a directory without safetensors files at its top is, and what to do; "" where nothing is known."""
    if (root / PIPELINE).is_file():
        folders = sorted({path.parent.name for path in root.glob("*/*.safetensors")})
        example = f", xorpack encode {root}/{folders[0]} OUT/{folders[0]} say" if folders else ""
        where = ", ".join(folders) or "folders"
        return f"a diffusers pipeline, whose models lie in {where}: encode each of them{example}"
    pickles = sorted(path for path in root.iterdir() if path.suffix in PICKLES and path.is_file())
    for path in pickles:
        what = recognise(path)
        return f"{path.name} is {what or _PICKLE}"
    return ""
