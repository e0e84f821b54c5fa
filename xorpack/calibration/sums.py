"""Sums over the sequences of a text, kept from time to time: a run that is killed can be gone on with."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xorpack.checkpoint.journal import compare
from xorpack.files import safetensors_file
from xorpack.files.atomic import atomic_file
from xorpack.files.safetensors_file import StoredTensor

SECONDS = 300.0
"""Between two times that sums which are under way are kept: two gigabytes take some seconds."""

RUN, DONE = "run.json", "xorpack_sequences"
"""The file that says what the sums of a folder depend on; in a file of sums, of how many sequences they are."""


class KeptSums:
    """A folder of sums, a file for each stage of a run; without a folder, nothing is kept."""

    def __init__(self, folder: Path | None = None, run: Mapping[str, Any] | None = None) -> None:
        """Go on in a folder that another run has left, or begin; ``run``: what the sums depend on, as JSON has it.

        Raises:
            ParameterError, SourceError: the sums in it depend on something else, see :func:`compare`.
        """
        self._folder = folder
        if folder is None:
            return
        path = folder / RUN
        if path.exists():
            compare(folder, json.loads(path.read_text()), run or {})
        else:
            with atomic_file(path) as temporary:
                temporary.write_text(json.dumps(run))

    def over(
        self,
        stage: str,
        sequences: torch.Tensor,
        sums: Mapping[str, torch.Tensor],
        told: Callable[[int], None] = lambda n: None,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Number and tokens of each sequence that is still to be added to ``sums``.

        Sums that were kept are read into them first. When the next sequence is asked for, they must be of this one.

        Args:
            stage: its name, a file's.
            sequences: of the whole text.
            sums: zeros, float32 or float64; each run has the same.
            told: of how many sequences more are done.
        """
        path = None if self._folder is None else self._folder / f"{stage}.safetensors"
        done = 0 if path is None or not path.exists() else _load(path, sums)
        if done:
            told(done)
        last = time.monotonic()
        for i in range(done, len(sequences)):
            yield i, sequences[i]
            if path is not None and (i + 1 == len(sequences) or time.monotonic() - last >= SECONDS):
                _save(path, sums, i + 1)
                last = time.monotonic()
            told(1)


def _load(path: Path, sums: Mapping[str, torch.Tensor]) -> int:
    file = safetensors_file.read(path)
    for name, tensor in sums.items():
        array = tensor.cpu().numpy()
        tensor.copy_(torch.from_numpy(file.tensors[name].data.view(array.dtype).reshape(array.shape)))
    return int(file.metadata[DONE])


def _save(path: Path, sums: Mapping[str, torch.Tensor], n: int) -> None:
    flat = {name: tensor.cpu().numpy().reshape(-1) for name, tensor in sums.items()}
    tensors = {name: StoredTensor("U8", (one.nbytes,), one.view(np.uint8)) for name, one in flat.items()}
    with atomic_file(path, overwrite=True) as temporary:
        safetensors_file.write(temporary, tensors, safetensors_file.header_bytes(tensors, {DONE: str(n)}))
