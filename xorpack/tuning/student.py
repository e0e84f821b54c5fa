"""The encoded model while it trains: which of its tensors do, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

import xorpack.hf
from xorpack.checkpoint.opened import Checkpoint
from xorpack.elements import Lossless
from xorpack.encoded import EncodedTensor
from xorpack.errors import ParameterError
from xorpack.files.safetensors_file import StoredTensor
from xorpack.torch.arrays import TORCH, to_numpy
from xorpack.torch.factored import FactoredWeight, factor, unfactor
from xorpack.torch.scales import freeze_scales, put_values, save_scales, trainable_scales
from xorpack.torch.weight import XorWeight


class Student:
    """An encoded model of transformers whose scales, gains, norms and biases train.

    Attributes:
        module: the model, float32, in the state of evaluation.
        parameters: what trains, by names.
    """

    def __init__(self, checkpoint: Checkpoint, *, vectors: bool) -> None:
        """Load the model.

        Args:
            checkpoint: of a directory.
            vectors: whether norms and biases train, too.

        Raises:
            ParameterError: it has no quantized weight.
        """
        self.checkpoint = checkpoint
        self.module: Any = xorpack.hf.load(checkpoint.layout.root, dtype=torch.float32).eval()
        self.module.requires_grad_(False)
        self.vectors = _vectors(checkpoint, self.module) if vectors else {}
        self.parameters: dict[str, nn.Parameter] = {}
        self.weights = {
            name: module
            for name, module in self.module.named_modules()
            if isinstance(module, XorWeight) and module.record["kind"] != Lossless.KIND
        }
        if not self.weights:
            raise ParameterError(
                f"{checkpoint.layout.root} has no quantized weight, and so no scales to train"
            )

    @property
    def device(self) -> torch.device:
        """Where it is."""
        found: torch.device = self.module.device
        return found

    def begin(self, dtype: torch.dtype) -> None:
        """Make what trains trainable; ``dtype``: of products with trellises."""
        self.factored: dict[str, FactoredWeight] = factor(self.module, dtype)
        others = {name: weight for name, weight in self.weights.items() if name not in self.factored}
        if others:
            trainable_scales(self.module)
        for name, weight in self.factored.items():
            self.parameters[f"{name}.scales"] = weight.scales
            if weight.gains is not None:
                self.parameters[f"{name}.gains"] = weight.gains
        for name, other in others.items():
            assert isinstance(other.trained, nn.Parameter)
            self.parameters[f"{name}.scales"] = other.trained
        self.parameters |= self.vectors
        for parameter in self.parameters.values():
            parameter.requires_grad_()

    def end(self) -> tuple[dict[str, EncodedTensor], dict[str, StoredTensor]]:
        """Round what was trained as it is stored, and let the model compute with that.

        Returns:
            Encoded tensors, and norms and biases, by their names in the checkpoint.

        Raises:
            DataError: scales or gains are NaN, infinite or too large.
        """
        unfactor(self.module)
        for name, factored in self.factored.items():
            weight = self.weights[name]
            put_values(weight, factored.trained_values(), name, weight.sections()["scales"].dtype)
        freeze_scales(self.module)
        carried = {}
        for name, vector in self.vectors.items():
            stored = self._carried(name)
            rounded = vector.detach().to(TORCH[stored.dtype])
            vector.data.copy_(rounded)
            carried[name] = StoredTensor.of(to_numpy(rounded))
        return {weight.name or name: weight.encoded() for name, weight in self.weights.items()}, carried

    def save_scales(self, path: Path, *, overwrite: bool) -> None:
        """See :func:`xorpack.torch.save_scales`."""
        save_scales(self.module, path, overwrite=overwrite)

    def _carried(self, name: str) -> StoredTensor:
        return next(file.carried[name] for file in self.checkpoint.files if name in file.carried)


def _vectors(checkpoint: Checkpoint, module: nn.Module) -> dict[str, nn.Parameter]:
    """Vectors of floats that stand in the files under the names that they have in the model."""
    carried = {name: stored for file in checkpoint.files for name, stored in file.carried.items()}
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.ndim == 1
        and name in carried
        and carried[name].dtype in ("F32", "F16", "BF16")
        and carried[name].shape == tuple(parameter.shape)
    }
