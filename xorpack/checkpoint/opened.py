"""An encoded checkpoint as a read-only mapping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xorpack.analysis.accounting import Account, Speed
from xorpack.code.expand import expand
from xorpack.code.packed import FAMILY
from xorpack.code.planes import TrellisPlanes
from xorpack.decoders import cpu
from xorpack.encoded import EncodedTensor
from xorpack.errors import FormatError, ParameterError
from xorpack.files import model
from xorpack.files.container import EncodedFile, open_files
from xorpack.files.in_file import EncodedInFile
from xorpack.files.remote import Staged

MIN_DECLARED = 1 << 28
"""Weights that the smallest file may declare, unless more are allowed: a second's work or so."""

DECLARED_PER_BYTE = 1 << 13
"""Weights that a file may declare for each of its bytes: at sparsity .9999, a mask takes a byte for 5,000."""


class Checkpoint(Mapping[str, EncodedTensor]):
    """Encoded tensors by name, over all files of a checkpoint; a tensor is read when it is asked for.

    Files are let go by :meth:`close`, or at the end of a ``with`` block. Tensors that were taken stay whole.

    Attributes:
        layout: the files on disk.
        files: the open files, in the order of ``layout.shards``; none after :meth:`close`.
        n_weights: of all encoded tensors.
    """

    def __init__(
        self, path: str | Path | Staged, *, verify: bool = True, max_weights: int | None = None
    ) -> None:
        """See :func:`open_checkpoint`; ``path``: or a source that is staged, for as long as that is."""
        if max_weights is not None and max_weights < 0:
            raise ParameterError(f"max_weights = {max_weights} is negative")
        source = path if isinstance(path, Staged) else Staged(Path(path), {})
        self.layout = model.find(source.path)
        self.files = open_files(source.open(self.layout.open()), verify=verify)
        self._file_of: dict[str, EncodedFile] | None = None
        file_of: dict[str, EncodedFile] = {}
        self._accounts: dict[str, Account] = {}
        seen: set[str] = set()
        for file in self.files:
            if twice := seen.intersection(file.order):
                raise FormatError(f"{file.path}: tensors {sorted(twice)[:5]} stand in an earlier file too")
            seen.update(file.order)
            file_of |= dict.fromkeys(file, file)
        self._file_of = file_of
        shapes = [record["shape"] for file in self.files for record in file.records.values()]
        self.n_weights = sum(math.prod(shape) for shape in shapes)
        self._check_declared(sum(math.prod(max(size, 1) for size in shape) for shape in shapes), max_weights)

    def _check_declared(self, declared: int, max_weights: int | None) -> None:
        n_bytes = sum(file.n_bytes for file in self.files)
        limit = max(MIN_DECLARED, DECLARED_PER_BYTE * n_bytes) if max_weights is None else max_weights
        if declared > limit:
            raise FormatError(
                f"{self.layout.root}: {n_bytes} bytes declare {declared} weights, more than {limit}; if they should, "
                f"allow as many with max_weights, --max-weights on the command line"
            )

    def __getitem__(self, name: str) -> EncodedTensor:
        return self._open()[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open())

    def __len__(self) -> int:
        return len(self._open())

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files; whatever is asked of the checkpoint afterwards raises ParameterError."""
        self.files = ()
        self._file_of = None

    def _open(self) -> Mapping[str, EncodedFile]:
        if self._file_of is None:
            raise ParameterError(f"{self.layout.root} was closed: open it again")
        return self._file_of

    def at(self, name: str) -> EncodedInFile:
        """An encoded tensor, not read."""
        return self._open()[name].at(name)

    def path_of(self, name: str) -> Path:
        """The file that holds an encoded tensor."""
        return self._open()[name].path

    @property
    def rewritten(self) -> tuple[EncodedFile, ...]:
        """Files whose header another tool wrote: of their carried tensors there are no checksums."""
        return tuple(file for file in self.files if not file.sealed)

    def accounts(self) -> dict[str, Account]:
        """The account of every encoded tensor, whose mask is decoded for it once."""
        for name in self:
            if name not in self._accounts:
                self._accounts[name] = Account.of(self[name])
        return dict(self._accounts)

    def speed(self) -> Speed:
        """Decode every tensor on one thread and time it, the better of two times."""
        n, best_mask, best_planes = 0, 0.0, 0.0
        for name in self:
            tensor = self[name]
            calls = (partial(tensor.load_mask, expand), partial(cpu.decode_planes, tensor))
            mask, planes = (min(_seconds(call) for _ in range(2)) for call in calls)
            n, best_mask, best_planes = n + tensor.n_weights, best_mask + mask, best_planes + planes
        return Speed(n_weights=n, mask=best_mask, planes=best_planes)

    def info(self) -> dict[str, Any]:
        """What ``xorpack info --json`` prints: sizes in the files by part, beside the bounds.

        ``bits_per_weight`` and ``bound`` count encoded weights; ``metadata`` is the files' headers. Tensors that
        are carried unchanged stand apart, under ``carried``: ``bytes.total`` + ``carried.bytes`` is the size
        of the files. ``rewritten`` names the files whose header another tool wrote.
        """
        accounts = self.accounts()
        carried = {name: stored for file in self.files for name, stored in file.carried.items()}
        carried_bytes = sum(stored.n_bytes for stored in carried.values())
        file_bytes = sum(file.n_bytes for file in self.files)
        stored_bytes = sum(account.n_bytes for account in accounts.values())
        total = Account.total(accounts.values(), metadata_bytes=file_bytes - carried_bytes - stored_bytes)
        return {
            "path": str(self.layout.root),
            "format_version": max(file.version for file in self.files),
            **total.as_dict(),
            "file_bytes": file_bytes,
            "carried": {"n_tensors": len(carried), "bytes": carried_bytes},
            "rewritten": [file.path.name for file in self.rewritten],
            "settings": self.files[0].settings,
            "tensors": {name: self._describe(name, account) for name, account in accounts.items()},
        }

    def _describe(self, name: str, account: Account) -> dict[str, Any]:
        tensor = self[name]
        coded: dict[str, Any]
        if isinstance(tensor.planes, TrellisPlanes):
            coded = {"network": tensor.planes.network.get_config()}
        elif tensor.packed is not None:
            coded = {"network": {"family": FAMILY}, "panel_rows": tensor.packed.panel_rows}
        else:
            coded = {"network": tensor.network.get_config(), "lanes": tensor.layout.lanes}
        return {
            "kind": tensor.kind,
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "bits": tensor.bits,
            **coded,
            "mask_codec": tensor.mask_codec,
            "group_size": tensor.group_size,
            "n_corrections": tensor.n_corrections,
            **({} if tensor.field is None else {"field": tensor.field.get_config()}),
            **account.as_dict(),
        }


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def open_checkpoint(path: str | Path, *, verify: bool = True, max_weights: int | None = None) -> Checkpoint:
    """Open an encoded file or model directory: a mapping, and a context manager.

    A tensor is read when it is asked for, each time anew.

    Args:
        path: a file or directory that :func:`encode_checkpoint` wrote.
        verify: check the stored bytes of a tensor against their checksum when it is read.
        max_weights: weights that the checkpoint may declare, for pruned ones take no bytes, but time to decode;
            default: ``DECLARED_PER_BYTE`` for each byte of its files, and ``MIN_DECLARED`` at least.

    Raises:
        FileNotFoundError: nothing is there.
        FormatError: it is not such a file, it is damaged, or it declares too many weights.
        SourceError: when a tensor is read: the file changed since it was opened.

    Examples:
        >>> with xorpack.open("out/") as checkpoint:                                   # doctest: +SKIP
        ...     weights = {name: xorpack.decode(tensor) for name, tensor in checkpoint.items()}
    """
    return Checkpoint(path, verify=verify, max_weights=max_weights)
