"""Hessians of a PyTorch model's linear layers: hooks add up ``x x^T`` of what the layers are given.

Layers that are given the very same tensor, as the projections of an attention are, share a matrix. Matrices are kept
for as many layers at a time as the memory asked for holds; the model runs over all sequences once for each such part,
and only as far as its last layer.

Guided, an ``x`` counts by what the loss of the text feels of the layer's error there: by the mean square of the loss's
gradient with respect to the layer's output (GuidedQuant, arXiv 2505.07004, with one group of outputs). Attention is in
that gradient, so that queries, keys and values need nothing else; values above all, for which a first token that all
attend to is large and means little. Of each sequence a fifth of such a sum is added to the plain one, both scaled to
the same trace: gradients are of a few tokens, and a fit to them alone was worse than one to a half or a fifth of them.
Sums of squares by output say how much each of them counts. The text is its own label: the loss is that of each next
token.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xorpack.calibration.sums import KeptSums
from xorpack.errors import DataError, ParameterError

PROBE = 32
"""Tokens of the run that finds which layers share an input."""

GUIDED = 0.2
"""Share of what is summed that gradients weigh."""

TINY = 1e-30
"""Energy of no inputs, or of none that the loss feels, which is no divisor."""

MEMORY = 2 << 30
"""Bytes of the matrices that are kept at a time."""

Progress = Callable[[str, int, int], None]
"""Called after every sequence: what is under way, sequences done since, sequences of all passes together."""


class _ReachedError(Exception):
    """The last layer of a part was given its input: the rest of the model need not run."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    """What is added up of an input.

    Attributes:
        hessian: of ``x x^T``, weighted if guided; float32 (n, n).
        rows: number of ``x``, float64 (1,).
        squares: squared gradients, float32 (n_out,), if guided.
        felt: the inputs' energy as the loss feels it, float32 (1,), if guided.
    """

    hessian: torch.Tensor
    rows: torch.Tensor
    squares: torch.Tensor
    felt: torch.Tensor

    @classmethod
    def zeros(cls, layer: torch.nn.Linear, device: torch.device) -> _Sums:
        """Of no input of a layer."""
        n_in, n_out = layer.in_features, layer.out_features
        return cls(
            torch.zeros(n_in, n_in, device=device),
            torch.zeros(1, dtype=torch.float64),
            torch.zeros(n_out, device=device),
            torch.zeros(1, device=device),
        )

    def named(self) -> Iterator[tuple[str, torch.Tensor]]:
        """All of them by name."""
        return ((each.name, getattr(self, each.name)) for each in fields(self))


class Collector:
    """What the inputs of a model's linear layers are, found by a short run, and their Hessians.

    Attributes:
        layers: the key of each layer's input, by the name of its weight; the key is the name of the first such layer.
        sizes: inputs of each key.
        rows: how many inputs each key has seen; complete when all matrices are made.
        n_outputs: outputs of each layer, if guided: then every layer has a key of its own.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        sequences: torch.Tensor,
        *,
        memory: int = MEMORY,
        guided: bool = False,
        progress: Progress | None = None,
        kept: KeptSums | None = None,
    ) -> None:
        """See the class.

        Args:
            model: in the state of evaluation; its first argument takes ``sequences`` row by row.
            sequences: tokens, int64 (n, length).
            memory: bytes of the matrices that are kept at a time; those of one input at least.
            guided: weigh by gradients, which takes the memory of a backward pass over a sequence; the model gives
                ``logits``, or is a function to them.
            progress: told of every sequence.
            kept: where sums are kept from time to time, and found.

        Raises:
            DataError: no linear layer is reached; NaN or infinity in what one is given.
        """
        self.model, self.sequences, self.memory, self.progress = model, sequences, memory, progress
        self.guided, self.kept = guided, kept or KeptSums()
        self.modules = {name: m for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
        seen: list[tuple[str, torch.Tensor]] = []  # tensors are held, so that no two of them have one place
        self._run(sequences[0, :PROBE], lambda name, x: seen.append((name, x)), self.modules)
        if not seen:
            raise DataError("no linear layer is called: is this a model of tokens?")
        for name, x in seen:
            self._check(name, x, 0)
        first: dict[tuple[Any, ...], str] = {}
        keys: dict[str, str] = {}
        for name, x in seen:
            place = (x.data_ptr(), tuple(x.shape), x._version)
            keys.setdefault(name, name if guided else first.setdefault(place, name))
        self.once = len(seen) == len(keys)
        keys |= {
            name: name for name in self.modules if name not in keys
        }  # experts that a few tokens do not reach
        self.layers = {f"{name}.weight": key for name, key in keys.items()}
        self.sizes = {key: self.modules[key].in_features for key in dict.fromkeys(keys.values())}
        self.rows = dict.fromkeys(self.sizes, 0)
        self.n_outputs = (
            {name: self.modules[key].out_features for name, key in self.layers.items()} if guided else {}
        )
        self._squares: dict[str, NDArray[np.float32]] = {}
        self._felt: dict[str, float] = {}

    @property
    def uncalled(self) -> list[str]:
        """Names of the weights of layers that saw no input."""
        return [name for name, key in self.layers.items() if not self.rows[key]]

    @property
    def n_runs(self) -> int:
        """Sequences of all passes together."""
        return len(self._parts()) * len(self.sequences)

    def matrices(self) -> Iterator[tuple[str, NDArray[np.float32], int]]:
        """Key, matrix (n, n) and rows seen of each input, in the order of :attr:`sizes`.

        Raises:
            DataError: NaN or infinity in what a layer is given.
        """
        parts = self._parts()
        self.rows = dict.fromkeys(self.sizes, 0)
        for number, part in enumerate(parts):
            modules = {key: self.modules[key] for key in part}
            sums = {key: _Sums.zeros(module, self._device()) for key, module in modules.items()}
            flat = {f"{key}.{name}": tensor for key, one in sums.items() for name, tensor in one.named()}
            told = functools.partial(self._tell, part[0])
            for i, sequence in self.kept.over(f"part-{number}", self.sequences, flat, told):
                (self._add_guided if self.guided else self._add)(sequence, modules, sums)
                for key, one in sums.items():
                    self._check(key, one.hessian.diagonal(), i)
            flat.clear()
            for key in part:
                one = sums.pop(key)
                self.rows[key] = int(one.rows)
                self._squares[key], self._felt[key] = one.squares.cpu().numpy(), float(one.felt)
                yield key, one.hessian.cpu().numpy(), self.rows[key]

    def gradients(self, name: str) -> NDArray[np.float32]:
        """What squared errors of each output of a weight cost, in the unit of :func:`squared_gradients`, if guided.

        The matrix's trace is one for each input; what the loss feels of the inputs' energy says what that is worth.
        """
        key = self.layers[name]
        squares = self._squares[key]
        scale = self._felt[key] / max(self.rows[key] * float(squares.mean()), TINY)
        return squares * np.float32(scale)

    @staticmethod
    def _check(key: str, numbers: torch.Tensor, sequence: int) -> None:
        if not torch.isfinite(numbers).all():
            raise DataError(f"layer {key!r} is given NaN or infinity in sequence {sequence} of the text")

    def _tell(self, key: str, n: int) -> None:
        if self.progress is not None:
            self.progress(key, n, self.n_runs)

    def _add(
        self, sequence: torch.Tensor, modules: Mapping[str, torch.nn.Module], sums: Mapping[str, _Sums]
    ) -> None:
        """Add ``x x^T`` of a sequence."""
        left = set(modules)

        def add(name: str, x: torch.Tensor) -> None:
            flat = x.reshape(-1, x.shape[-1]).float()
            sums[name].hessian.addmm_(flat.T, flat)
            sums[name].rows.add_(len(flat))
            left.discard(name)
            if self.once and not left:
                raise _ReachedError

        self._run(sequence, add, modules)

    def _add_guided(
        self, sequence: torch.Tensor, modules: Mapping[str, torch.nn.Module], sums: Mapping[str, _Sums]
    ) -> None:
        """Add ``x x^T``, weighted, squared gradients, and the inputs' energy as the loss feels it, of a sequence."""
        calls: list[tuple[str, torch.Tensor, torch.Tensor]] = []
        hooks = [
            module.register_forward_hook(
                lambda _, args, out, name=name: calls.append((name, args[0].detach(), out))
            )
            for name, module in modules.items()
        ]
        try:
            with torch.enable_grad():
                row = sequence[None].to(self._device())
                found = self.model(row)
                logits = getattr(found, "logits", found)
                if not isinstance(logits, torch.Tensor) or logits.shape[:2] != row.shape:
                    raise ParameterError(
                        "guided needs a model that predicts tokens: it gives no logits of each"
                    )
                loss = torch.nn.functional.cross_entropy(logits[0, :-1].float(), row[0, 1:], reduction="sum")
                if not math.isfinite(loss.item()):
                    raise DataError(f"the model's loss is {loss.item()} in a sequence of the text")
                gradients = torch.autograd.grad(loss, [out for *_, out in calls], allow_unused=True)
        finally:
            for hook in hooks:
                hook.remove()
        for (name, x, _), gradient in zip(calls, gradients, strict=True):
            flat = x.reshape(-1, x.shape[-1]).float()
            energies = flat.square().sum(1)
            share = (1 - GUIDED) / energies.sum().clamp_min(TINY)
            if gradient is not None:
                square = gradient.reshape(len(flat), -1).float().square()
                sums[name].squares.add_(square.sum(0))
                felt = square.mean(1)
                sums[name].felt.add_(felt @ energies)
                share = share + GUIDED * felt / (felt @ energies).clamp_min(TINY)
            weighted = flat * (len(flat) * share).sqrt().reshape(-1, 1)
            sums[name].hessian.addmm_(weighted.T, weighted)
            sums[name].rows.add_(len(flat))

    def _parts(self) -> list[list[str]]:
        """The keys, as many at a time as the memory holds."""
        parts: list[list[str]] = []
        held = 0
        for key, n in self.sizes.items():
            if not parts or held + 4 * n * n > self.memory:
                parts.append([])
                held = 0
            parts[-1].append(key)
            held += 4 * n * n
        return parts

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _run(
        self,
        sequence: torch.Tensor,
        told: Callable[[str, torch.Tensor], None],
        modules: Mapping[str, torch.nn.Module],
    ) -> None:
        """Run the model over a sequence; ``told`` gets the name and the input of each of ``modules`` that is called."""
        hooks = [
            module.register_forward_pre_hook(lambda _, args, name=name: told(name, args[0]))
            for name, module in modules.items()
        ]
        try:
            with torch.no_grad():
                self.model(sequence[None].to(self._device()))
        except _ReachedError:
            pass
        finally:
            for hook in hooks:
                hook.remove()
