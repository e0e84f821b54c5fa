"""Handwritten digits: networks that are trained here, pruned to nine tenths by magnitude, and trained on.

Several, from other beginnings, all quantized alike: three of the test's images are half a point of one of them, and
chance alone moves one by as many.

The only one of these models of which so many weights can honestly be pruned: the others would need a training of days.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import numpy as np
import torch

from benchmarks.quality.layers import Model, Weights
from benchmarks.quality.packages import packaged
from benchmarks.quality.score import Score
from xorpack import EncodedTensor
from xorpack.torch import XorWeight, freeze_scales, put, trainable_scales

HIDDEN = 256

N_TEST = 597
"""Images of the 1797 that are not trained on: the last ones, by other writers."""

EPOCHS = 40

TUNING_RATE = 1e-3
"""Of scales and biases, in as many epochs, after everything else."""

SPARSITY = 0.9

N_TRAININGS = 6
"""Networks: the score is their mean."""


class Digits(Model):
    """Networks of two hidden layers, trained; with all weights."""

    measure = "accuracy"

    def __init__(self) -> None:
        table = np.loadtxt(packaged("scikit-learn", "digits.csv.gz"), delimiter=",", dtype=np.float32)
        images, labels = torch.from_numpy(table[:, :-1] / 16), torch.from_numpy(table[:, -1]).long()
        self.training = images[:-N_TEST], labels[:-N_TEST]
        self.test = images[-N_TEST:], labels[-N_TEST:]
        self.module = torch.nn.ModuleList(_network(seed) for seed in range(N_TRAININGS))
        self.train()

    def train(self) -> None:
        """Train all weights that are not 0."""
        for seed, network in enumerate(self.module):
            torch.manual_seed(seed)
            _train(network, *self.training)

    def tune(self, dense: Weights, encoded: Mapping[str, EncodedTensor]) -> Weights:
        """See :meth:`Model.tune`; on the images of the training, without their labels."""
        self.set(dense)
        students = copy.deepcopy(self.module)
        for name, tensor in encoded.items():
            put(students.get_submodule(name), "weight", XorWeight.of(tensor))
        for seed, (teacher, student) in enumerate(zip(self.module, students, strict=True)):
            torch.manual_seed(seed)
            _distil(teacher, student, self.training[0])
        for name, layer in self._linear():
            layer.bias.data.copy_(students.get_submodule(name).bias)
        return {name: students.get_submodule(name).weight.decode().numpy() for name in encoded}

    def score(self) -> Score:
        """The share of the test images that are told right."""
        images, labels = self.test
        with torch.inference_mode():
            right = torch.stack([network(images).argmax(1) == labels for network in self.module])
        shares = right.double().mean(0).numpy()
        return Score.of(len(shares), lambda i: shares[i].mean())


class PrunedDigits(Digits):
    """The same, their layers pruned by magnitude, each by itself, and trained on."""

    measure = "accuracy, nine tenths pruned"

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            for _, layer in self._linear():
                limit = layer.weight.abs().flatten().quantile(SPARSITY)
                layer.weight.masked_fill_(layer.weight.abs() <= limit, 0)
        self.train()


def _network(seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, 10),
    )  # fmt: skip


def _noisy(images: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """An epoch: what images are taken together, and they with noise."""
    for batch in torch.randperm(len(images)).split(64):
        yield batch, images[batch] + 0.1 * torch.randn(len(batch), images.shape[1])


def _train(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    pruned = [layer.weight == 0 for layer in layers]
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for batch, noisy in _noisy(images):
            loss = torch.nn.functional.cross_entropy(network(noisy), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for layer, zeros in zip(layers, pruned, strict=True):
                    layer.weight.masked_fill_(zeros, 0)


def _distil(teacher: torch.nn.Module, student: torch.nn.Module, images: torch.Tensor) -> None:
    """Train the scales and biases of ``student`` to answer as ``teacher`` does."""
    trainable_scales(student)
    optimizer = torch.optim.Adam(student.parameters(), TUNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for _, noisy in _noisy(images):
            with torch.no_grad():
                wanted = teacher(noisy).log_softmax(1)
            found = student(noisy).log_softmax(1)
            loss = torch.nn.functional.kl_div(found, wanted, log_target=True, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    freeze_scales(student)
