"""What can be known of an encoding before it begins: that it can be done, and what each tensor costs by its rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from xorpack.checkpoint.budget import Curve, Quantizer
from xorpack.checkpoint.encode import EncodingRun
from xorpack.checkpoint.plan import CheckpointPlan
from xorpack.checkpoint.settings import Progress, Settings
from xorpack.checkpoint.source import plain_tensors, refuse_quantized
from xorpack.files import model
from xorpack.files.hessians import Hessians


class Survey:
    """A plain checkpoint that is to be encoded.

    Attributes:
        n_weights: of the tensors to encode.
    """

    def __init__(
        self,
        src: str | Path,
        settings: Settings,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        hessian: str | Path | None = None,
        jobs: int = 1,
    ) -> None:
        """See :func:`xorpack.encode_checkpoint` for the arguments and for what is raised."""
        settings.check()
        layout = model.find(Path(src))
        files = layout.open()
        tensors = plain_tensors(files)
        refuse_quantized(layout, tensors)
        self._run = EncodingRun(
            CheckpointPlan(settings, tensors, include, exclude),
            sum(file.n_bytes for file in files),
            jobs=jobs,
            stats=None if hessian is None else Hessians(hessian),
        )
        self.n_weights = self._run.plan.n_weights

    def check_budget(self) -> None:
        """Raise ParameterError if a budget is below what masks, scales and the lowest rate take."""
        self._run.plan.check_budget()

    def curves(self, progress: Progress | None = None) -> Mapping[str, Curve]:
        """What each tensor takes and loses by quantizer; ``progress``: told of every tensor that is measured."""
        return self._run.curves(progress)

    def quantizers(self, curves: Mapping[str, Curve]) -> dict[str, Quantizer]:
        """Those of the least error within the budget."""
        self._run.plan.choose_quantizers(curves)
        return self._run.plan.quantizers
