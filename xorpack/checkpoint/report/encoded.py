"""The report on an encoded checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xorpack.analysis.accounting import PAYLOAD, Account
from xorpack.analysis.comparison import Comparison, compare
from xorpack.analysis.density import density_map
from xorpack.analysis.distortion import Distortion, Source
from xorpack.analysis.formats import FormatRow, FormatTable, by_formula
from xorpack.analysis.inspect import mask_blocks, mask_counts, plane_entropies
from xorpack.analysis.mask_models import MaskBounds
from xorpack.analysis.output_loss import OutputLoss
from xorpack.analysis.report import advice
from xorpack.analysis.report.contents import Part, Report, TensorReport
from xorpack.analysis.row_errors import Rows
from xorpack.checkpoint.opened import Checkpoint
from xorpack.checkpoint.report.common import (
    Wanted,
    carried_tensors,
    common,
    counts_of,
    other_bytes,
    sample_parts,
)
from xorpack.code.planes import TrellisPlanes
from xorpack.decoders import cpu
from xorpack.elements import Bcq, Lossless
from xorpack.encoded import EncodedTensor
from xorpack.errors import MismatchError, XorpackError
from xorpack.files.in_file import EncodedInFile
from xorpack.files.safetensors_file import StoredTensor
from xorpack.tensors import BCQTensor


def report_encoded(checkpoint: Checkpoint, wanted: Wanted) -> Report:
    """See :func:`xorpack.checkpoint.report.report_checkpoint`."""
    return _Encoded(checkpoint, wanted).report()


class _Encoded:
    def __init__(self, checkpoint: Checkpoint, wanted: Wanted) -> None:
        self.checkpoint, self.wanted = checkpoint, wanted
        self.n_weights = checkpoint.n_weights

    def report(self) -> Report:
        checkpoint = self.checkpoint
        tensors = self._tensors()
        carried = carried_tensors({k: t for file in checkpoint.files for k, t in file.carried.items()})
        carried_bytes = sum(t.n_bytes for t in carried)
        file_bytes = sum(file.n_bytes for file in checkpoint.files)
        section_bytes = sum(t.account.n_bytes for t in tensors)
        total = Account.total(
            (t.account for t in tensors), metadata_bytes=file_bytes - carried_bytes - section_bytes
        )
        other = other_bytes(checkpoint.layout)
        parts = (
            *(
                Part(name=name, n_bytes=total.section_bytes[name])
                for name in (*PAYLOAD, "mask", "scales", "gains")
            ),
            Part(name="metadata", n_bytes=total.metadata_bytes),
            Part(name="carried", n_bytes=carried_bytes),
            Part(name="other files", n_bytes=other),
        )
        variants: dict[str, list[str]] = {}
        for tensor in tensors:
            label = f"{tensor.bits}-bit" if tensor.kind == "bcq" else tensor.kind
            variants.setdefault(label, []).append(tensor.name)
        return Report(
            **common(checkpoint.layout, self.wanted.path),
            quality=self.wanted.quality,
            kind="encoded",
            settings=checkpoint.files[0].settings,
            n_parameters=sum(math.prod(t.shape) for t in tensors) + sum(math.prod(t.shape) for t in carried),
            total_bytes=file_bytes + other,
            source_bytes=total.original_bytes + carried_bytes + other,
            parts=parts,
            tensors=tensors,
            carried=carried,
            formats={label: self._formats(names, tensors) for label, names in variants.items()},
            comparison={} if self.wanted.sample is None else dict(self._compare(variants)),
            density={t.name: self._map(t.name) for t in self.wanted.mapped(tensors)},
            advice=advice.for_encoded(total, parts, tensors, carried),
        )

    def _tensors(self) -> tuple[TensorReport, ...]:
        tasks = [self._task(name) for name in self.checkpoint]
        found = []
        for task, one in zip(tasks, self.wanted.pool.map(report_tensor, tasks), strict=True):
            found.append(one)
            if self.wanted.progress is not None:
                self.wanted.progress(task.name, task.tensor.n_weights, self.n_weights)
        return tuple(found)

    def _task(self, name: str) -> EncodedTask:
        against, stats = self.wanted.against, self.wanted.stats
        known = stats is not None and name in stats
        return EncodedTask(
            tensor=self.checkpoint.at(name),
            compare=against is not None,
            source=None if against is None else against.get(name),
            hessian=stats.stored(name) if known and stats is not None else None,
            gradients=stats.gradients(name) if known and stats is not None else None,
            n_tokens=stats.n_tokens if known and stats is not None else 0,
        )

    def _formats(self, names: Sequence[str], tensors: Sequence[TensorReport]) -> FormatTable:
        chosen = [t for t in tensors if t.name in set(names)]
        total = Account.total(t.account for t in chosen)
        note = "as stored, without headers"
        ours = FormatRow(
            name="xorpack, this file",
            note=note,
            bits_per_weight=total.per_weight(total.n_bytes),
            measured=True,
        )
        return by_formula(ours, (counts_of(t.shape, t.account, t.bits) for t in chosen))

    def _map(self, name: str) -> NDArray[np.float64]:
        tensor = self.checkpoint[name]
        return density_map(mask_blocks(tensor), tensor.rows, tensor.cols)

    def _compare(self, variants: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, Comparison]]:
        for label, names in variants.items():
            shapes = {name: self.checkpoint[name].shape for name in names}
            parts = [
                _rows_of(self.checkpoint[name], rows)
                for name, rows in sample_parts(shapes, self.wanted.sample or 0)
            ]
            if parts:
                yield label, compare(parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedTask:
    """An encoded tensor to report on; it can be sent to another process.

    Attributes:
        tensor: itself.
        compare: whether its error is wanted.
        source: what it was made from, if that is there.
        hessian: of its layer's inputs, where they are known.
        gradients: of its layer's outputs, where they are known.
        n_tokens: of the text that these are of.
    """

    tensor: EncodedInFile
    compare: bool = False
    source: StoredTensor | None = None
    hessian: StoredTensor | None = None
    gradients: NDArray[np.float32] | None = None
    n_tokens: int = 0

    @property
    def name(self) -> str:
        """Of the tensor."""
        return self.tensor.name


def report_tensor(task: EncodedTask) -> TensorReport:
    """Report on one encoded tensor.

    Raises:
        FormatError, CorruptError: it breaks a rule.
        MismatchError: what it is to be compared with is of another model.
        SourceError: a file changed.
    """
    tensor = task.tensor.load()
    try:
        mask, planes = MaskBounds.of(mask_counts(tensor)), plane_entropies(tensor)
        account = Account.of(tensor, mask, planes)
        distortion, outputs = _distortion(task, tensor, account), _outputs(task, tensor)
    except XorpackError as error:
        raise type(error)(f"{task.tensor.label}: {error}") from None
    zeros, ones = tensor.planes.constants
    elements = tensor.elements
    in_field = () if tensor.field is None else tensor.field.code.planes
    return TensorReport(
        name=task.name,
        dtype=tensor.dtype,
        shape=tensor.shape,
        kind=tensor.kind,
        bits=tensor.bits,
        group_size=0 if isinstance(elements, Lossless) else elements.group_size,
        mask_codec=tensor.mask_codec,
        network=_network(tensor),
        account=account,
        mask=mask,
        planes=planes,
        coded=tuple(k for k in range(tensor.bits) if not (zeros | ones) >> k & 1 and k not in in_field),
        in_field=tuple(in_field),
        distortion=distortion,
        outputs=outputs,
    )


def _distortion(task: EncodedTask, tensor: EncodedTensor, account: Account) -> Distortion | None:
    if not task.compare or tensor.kind == "lossless":
        return None
    theirs = task.source
    if theirs is None or (theirs.dtype, theirs.shape) != (tensor.dtype, tensor.shape):
        what = "has none of that name" if theirs is None else f"has {theirs.dtype} {list(theirs.shape)}"
        raise MismatchError(
            f"{tensor.dtype} {list(tensor.shape)} was encoded, the checkpoint to compare {what}"
        )
    weight = theirs.array().reshape(tensor.rows, tensor.cols)
    rows = Rows.of(weight, cpu.decode_blocks(tensor))
    n_bytes, n_kept = account.n_bytes, int(rows.n_kept.sum())
    if n_kept == account.n_kept < account.n_weights:  # the zeros were there: their places are given
        n_bytes -= account.section_bytes["mask"]
    bound = Source.of(weight, rows).distortion(8 * n_bytes / max(n_kept, 1))
    return Distortion.of(rows, account.per_weight(account.n_bytes), bound or None)


def _outputs(task: EncodedTask, tensor: EncodedTensor) -> OutputLoss | None:
    hessian, gradients = task.hessian, task.gradients
    if task.source is None or hessian is None or tensor.kind == "lossless":
        return None
    sizes = hessian.shape[0], tensor.rows if gradients is None else len(gradients)
    if sizes != (tensor.cols, tensor.rows):
        raise MismatchError(
            f"it is {tensor.rows} x {tensor.cols}, and its statistics are {sizes[1]} x {sizes[0]}"
        )
    return OutputLoss.of(
        task.source.array().reshape(tensor.rows, tensor.cols),
        cpu.decode_blocks(tensor),
        hessian.array(),
        gradients,
        task.n_tokens,
        tensor.n_kept,
    )


def _network(tensor: EncodedTensor) -> str:
    if isinstance(tensor.planes, TrellisPlanes):
        trellis = tensor.planes.network
        return f"trellis: {trellis.n_in} bits for {trellis.n_out} weights, window {trellis.window}"
    if tensor.packed is not None:
        return f"packed: panels of {tensor.packed.panel_rows} rows"
    network = tensor.network
    text = {
        "turned": f"window {network.window}, held for {network.hold} steps, {network.n_rows} rows",
        "quasi-cyclic": f"window {network.window}, {network.n_taps} taps, {network.n_rows} rows",
        "dense": f"n_in {network.n_in}, n_out {network.n_out}, window {network.window}",
        "sparse": f"n_in {network.n_in}, n_out {network.n_out}, window {network.window}, {network.n_taps} taps",
        "identity": "raw",
    }[network.family]
    return f"{network.family}: {text}"


def _rows_of(tensor: EncodedTensor, rows: int) -> BCQTensor | NDArray[Any]:
    if not isinstance(tensor.elements, Bcq):
        return cpu.decode_rows(tensor, 0, rows).view(tensor.matrix_dtype)
    mask, planes = cpu.decode_planes(tensor, 0, rows)
    return BCQTensor(
        shape=(rows, tensor.cols),
        dtype=tensor.dtype,
        mask=mask,
        planes=planes,
        scales=tensor.elements.scales[:rows],
        group_size=tensor.elements.group_size,
    )
