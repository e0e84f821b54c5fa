"""Handwritten digits: a network that is trained here, pruned to nine tenths by magnitude, and trained on.

The only one of these models of which so many weights can honestly be pruned: the others would need a training of days.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

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


class Digits(Model):
    """Two hidden layers, trained; with all weights."""

    measure = "accuracy"

    def __init__(self) -> None:
        table = np.loadtxt(packaged("scikit-learn", "digits.csv.gz"), delimiter=",", dtype=np.float32)
        images, labels = torch.from_numpy(table[:, :-1] / 16), torch.from_numpy(table[:, -1]).long()
        self.training = images[:-N_TEST], labels[:-N_TEST]
        self.test = images[-N_TEST:], labels[-N_TEST:]
        torch.manual_seed(0)
        self.module = torch.nn.Sequential(
            torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, HIDDEN), torch.nn.ReLU(),
            torch.nn.Linear(HIDDEN, 10),
        )  # fmt: skip
        self.train()

    def train(self) -> None:
        """Train all weights that are not 0."""
        pruned = {name: layer.weight == 0 for name, layer in self._linear()}
        optimizer = torch.optim.Adam(self.module.parameters(), 1e-3)
        images, labels = self.training
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images)).split(64):
                noisy = images[batch] + 0.1 * torch.randn(len(batch), 64)
                loss = torch.nn.functional.cross_entropy(self.module(noisy), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    for name, layer in self._linear():
                        layer.weight.masked_fill_(pruned[name], 0)

    def tune(self, dense: Weights, encoded: Mapping[str, EncodedTensor]) -> Weights:
        """See :meth:`Model.tune`; on the images of the training, without their labels."""
        self.set(dense)
        teacher, student = copy.deepcopy(self.module), copy.deepcopy(self.module)
        for name, tensor in encoded.items():
            put(student.get_submodule(name), "weight", XorWeight.of(tensor))
        images = self.training[0]
        torch.manual_seed(0)
        trainable_scales(student)
        optimizer = torch.optim.Adam(student.parameters(), TUNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(images)).split(64):
                noisy = images[batch] + 0.1 * torch.randn(len(batch), 64)
                with torch.no_grad():
                    wanted = teacher(noisy).log_softmax(1)
                found = student(noisy).log_softmax(1)
                loss = torch.nn.functional.kl_div(found, wanted, log_target=True, reduction="batchmean")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
        freeze_scales(student)
        for name, layer in self._linear():
            layer.bias.data.copy_(student.get_submodule(name).bias)
        return {name: student.get_submodule(name).weight.decode().numpy() for name in encoded}

    def score(self) -> Score:
        """The share of the test images that are told right."""
        images, labels = self.test
        with torch.inference_mode():
            right = (self.module(images).argmax(1) == labels).double().numpy()
        return Score.of(len(right), lambda i: right[i].mean())


class PrunedDigits(Digits):
    """The same, its layers pruned by magnitude, each by itself, and trained on."""

    measure = "accuracy, nine tenths pruned"

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            for _, layer in self._linear():
                limit = layer.weight.abs().flatten().quantile(SPARSITY)
                layer.weight.masked_fill_(layer.weight.abs() <= limit, 0)
        self.train()
