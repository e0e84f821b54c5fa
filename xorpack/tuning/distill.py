"""Distillation: what of an encoded model trains, steps, the state between them, and the best of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xorpack.errors import DataError, FormatError
from xorpack.files.atomic import atomic_file
from xorpack.tuning.targets import Targets, logits_of

WARM_UP = 0.05
"""The share of the steps in which the learning rate rises; then it falls as a cosine does."""

LEAST_SIZE = 1e-3
"""The least root mean square that a tensor's learning rate is in units of: biases may begin as zeros."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How a training goes.

    Attributes:
        steps: of the optimizer, Adam.
        learning_rate: its highest, in units of the root mean square of each tensor.
        batch: sequences of a step.
        seed: of their order.
        every: steps between two looks at the held-out sequences.
    """

    steps: int
    learning_rate: float
    batch: int
    seed: int
    every: int


class Distillation:
    """A student that is trained on the targets of sequences.

    Attributes:
        step: steps done.
        loss: of the held-out sequences as the parameters are now.
        first_loss, best_loss: the first that was seen, and the least.
        best: the parameters of the least.
    """

    def __init__(
        self,
        student: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        course: Course,
        training: Sequence[tuple[Tensor, Targets]],
        held_out: Sequence[tuple[Tensor, Targets]],
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Look at the held-out sequences once.

        Args:
            student: gives logits, in the state of evaluation; nothing of it trains but ``parameters``.
            parameters: by names, which a state is kept by.
            course: of the training.
            training, held_out: sequences of tokens, and the teacher's targets of each.
            dtype: that products are computed in, where it is not float32.
        """
        self.student, self.course, self.dtype = student, course, dtype
        self.parameters, self.training, self.held_out = dict(parameters), training, held_out
        groups = [{"params": [p], "size": _size(p)} for p in self.parameters.values()]
        self.optimizer = torch.optim.Adam(groups, lr=0, betas=(0.9, 0.95))
        self.step = 0
        self.loss = self.first_loss = self.best_loss = self.held_out_loss()
        self.best = self._values()

    def run(
        self,
        looked: Callable[[Distillation, float], None] = lambda *_: None,
        stepped: Callable[[], None] = lambda: None,
    ) -> None:
        """Train on to the last step.

        Args:
            looked: called whenever the held-out sequences were looked at, with this and the mean loss of the steps
                since, as they were taken.
            stepped: called after every step.
        """
        losses = []
        while self.step < self.course.steps:
            losses.append(self._advance())
            stepped()
            if self.step % self.course.every == 0 or self.step == self.course.steps:
                self.loss = self.held_out_loss()
                if self.loss < self.best_loss:
                    self.best_loss, self.best = self.loss, self._values()
                looked(self, sum(losses) / len(losses))
                losses.clear()

    def restore_best(self) -> None:
        """Let the parameters be those of the least loss."""
        self._put(self.best)

    def save(self, path: Path, about: str) -> None:
        """Write the state, from which :meth:`resume` goes on; ``about`` is what it must belong to."""
        state = {
            "about": about,
            "step": self.step,
            "first_loss": self.first_loss,
            "best_loss": self.best_loss,
            "best": self.best,
            "values": self._values(),
            "optimizer": self.optimizer.state_dict(),
        }
        with atomic_file(path, overwrite=True) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path, about: str) -> None:
        """Go on from a state.

        Raises:
            FormatError: it is no state, or one of another training.
        """
        try:
            state = torch.load(path, weights_only=True)
            same = state["about"] == about
            if same:
                self._put(state["values"])
                self.optimizer.load_state_dict(state["optimizer"])
                self.step, self.best = state["step"], state["best"]
                self.first_loss, self.best_loss = state["first_loss"], state["best_loss"]
        except Exception as error:  # whatever torch.load raises of bytes that are no state
            line = str(error).partition("\n")[0] or type(error).__name__
            raise FormatError(f"{path}: no state of a training: {line}") from None
        if not same:
            raise FormatError(
                f"{path}: the state of another training: of another model, teacher, text or settings"
            )

    def _advance(self) -> float:
        """One step; its loss."""
        total = 0.0
        for i in range(self.step * self.course.batch, (self.step + 1) * self.course.batch):
            tokens, targets = self.training[self._order(i // len(self.training))[i % len(self.training)]]
            with self._products():
                logits = logits_of(self.student, tokens)
            loss = targets.divergence(logits) / self.course.batch
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        if not math.isfinite(total):
            raise DataError(f"the loss of step {self.step} is {total}: give a smaller learning rate")
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate() * group["size"]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        return total

    def _rate(self) -> float:
        done, warm = self.step / self.course.steps, (self.step + 1) / max(1.0, WARM_UP * self.course.steps)
        return self.course.learning_rate * min(1.0, warm) * (1 + math.cos(math.pi * done)) / 2

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(self.course.seed + epoch)
        return [int(i) for i in torch.randperm(len(self.training), generator=generator)]

    def held_out_loss(self) -> float:
        """The mean divergence on the held-out sequences, as the student is now."""
        losses = []
        with torch.no_grad(), self._products():
            for tokens, targets in self.held_out:
                losses.append(targets.divergence(logits_of(self.student, tokens)).item())
        return sum(losses) / len(losses)

    def _products(self) -> AbstractContextManager[Any]:
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(next(iter(self.parameters.values())).device.type, self.dtype)

    def _values(self) -> dict[str, Tensor]:
        return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters.items()}

    def _put(self, values: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(values[name])


def faster_dtype(device: torch.device) -> torch.dtype:
    """The type in which this device multiplies matrices faster: bfloat16 or float32."""

    def seconds(dtype: torch.dtype) -> float:
        x = torch.ones(256, 512, dtype=dtype, device=device)
        y = torch.ones(512, 512, dtype=dtype, device=device)
        taken = []
        for _ in range(5):
            began = time.perf_counter()
            (x @ y).sum().item()
            taken.append(time.perf_counter() - began)
        return min(taken)

    return torch.bfloat16 if seconds(torch.bfloat16) < seconds(torch.float32) else torch.float32


def _size(parameter: Tensor) -> float:
    """The root mean square, or :data:`LEAST_SIZE` if that is less."""
    return max(LEAST_SIZE, parameter.detach().float().square().mean().sqrt().item())
