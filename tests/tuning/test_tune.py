"""Tuning a tiny Llama: what changes in the directory and what does not, deltas, states, errors."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file
from small_llama import WORDS, make_model, written

import xorpack
import xorpack.files.hessians
from xorpack.cli.commands import cli
from xorpack.errors import DestinationError, FormatError, ParameterError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import xorpack.hf  # noqa: E402
from xorpack.torch import load_scales  # noqa: E402
from xorpack.tuning.run import tune  # noqa: E402
from xorpack.tuning.targets import Targets  # noqa: E402

HOW = {"steps": 12, "batch": 2, "length": 32, "learning_rate": 0.02}
TRAINED = (".xor_scales", ".xor_gains", ".xor_record", "norm.weight")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("dense"), spread=0.2, dtype="bfloat16")


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return written(tmp_path_factory.mktemp("text") / "text.txt", 640)


@pytest.fixture(scope="module")
def trellis(dense, tmp_path_factory):
    """Encoded with gains, by a quarter of the layers' inputs' Hessians at least."""
    root = tmp_path_factory.mktemp("encoded")
    stats = root / "stats"
    rows = np.random.default_rng(1).normal(size=(200, 64)).astype(np.float32)
    keys = {f"model.layers.{i}.self_attn.{n}_proj.weight": "x" for i in range(2) for n in "qkv"}
    xorpack.files.hessians.write(stats, keys, {"x": 64}, iter([("x", rows.T @ rows, 200)]))
    xorpack.encode_checkpoint(dense, root / "out", rate=1.5, hessian=stats)
    return root / "out"


def test_only_scales_gains_and_norms_change_and_the_model_comes_closer(dense, text, trellis, tmp_path):
    out, looks = tmp_path / "out", []
    report = tune(trellis, out, teacher=dense, text=text, told=looks.append, **HOW)
    assert (report.n_weights, report.n_vectors, report.n_sequences, report.n_held_out) == (14, 5, 20, 2)
    assert (
        report.best_loss == min(look.loss for look in looks) < 0.9 * report.first_loss == 0.9 * looks[0].loss
    )
    assert report.written_loss < 0.95 * report.first_loss
    before, after = (load_file(path / "model.safetensors") for path in (trellis, out))
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(_bytes(before[name]), _bytes(after[name]))}
    assert changed == {name for name in before if name.endswith(TRAINED)}
    assert {before[name].dtype for name in changed} == {after[name].dtype for name in changed}
    assert sum(name.endswith(".xor_gains") for name in changed) == 6
    others = {path.name for path in trellis.iterdir()} - {"model.safetensors"}
    assert {path.name for path in out.iterdir()} == others | {"model.safetensors"}
    for name in others:
        assert (out / name).read_bytes() == (trellis / name).read_bytes()
    xorpack.verify_checkpoint(out)


def _bytes(array):
    return np.ascontiguousarray(array).view(np.uint8)


def test_a_delta_on_the_base_is_the_tuned_model(dense, text, trellis, tmp_path):
    delta = tmp_path / "task.safetensors"
    report = tune(trellis, None, teacher=dense, text=text, delta=delta, **HOW)
    assert report.n_vectors == 0
    assert report.written_loss < report.first_loss
    assert {name.rpartition(".")[2] for name in load_file(delta)} == {"xor_scales", "xor_gains"}
    base = xorpack.hf.load(trellis, dtype=torch.float32)
    teacher = transformers.AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
    ids = torch.tensor([[WORDS.index(word) + 1 for word in text.read_text().split()[-64:]]]).reshape(2, 32)
    with torch.no_grad():
        targets = [Targets.of(logits) for logits in teacher(ids).logits]
        losses = []
        for path in (None, delta):
            if path is not None:
                load_scales(base, path)
            each = [t.divergence(logits).item() for t, logits in zip(targets, base(ids).logits, strict=True)]
            losses.append(sum(each) / 2)
    assert losses == pytest.approx([report.first_loss, report.written_loss], rel=0.02)


def test_a_training_that_was_cut_off_goes_on(dense, text, trellis, tmp_path):
    whole, parts, state = tmp_path / "whole", tmp_path / "parts", tmp_path / "state"
    tune(trellis, whole, teacher=dense, text=text, **HOW)

    class CutError(Exception):
        pass

    def cut(look):
        if look.step == 6:
            raise CutError

    with pytest.raises(CutError):
        tune(trellis, parts, teacher=dense, text=text, state=state, told=cut, **HOW)
    assert not parts.exists()
    looks = []
    report = tune(trellis, parts, teacher=dense, text=text, state=state, told=looks.append, **HOW)
    assert [look.step for look in looks] == [8, 10, 12]
    assert report.first_loss > report.best_loss
    for one, other in zip(*(sorted(p.iterdir()) for p in (whole, parts)), strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
    with pytest.raises(FormatError, match="of another training"):
        tune(trellis, tmp_path / "x", teacher=dense, text=text, state=state, **{**HOW, "steps": 13})
    state.write_bytes(b"no state")
    with pytest.raises(FormatError, match="no state of a training"):
        tune(trellis, tmp_path / "x", teacher=dense, text=text, state=state, **HOW)


def test_binary_codes_train_too(dense, text, tmp_path):
    xorpack.encode_checkpoint(dense, tmp_path / "bcq", bits=1, group_size=16)
    report = tune(tmp_path / "bcq", tmp_path / "out", teacher=dense, text=text, **HOW)
    assert report.written_loss < 0.9 * report.first_loss
    xorpack.verify_checkpoint(tmp_path / "out")


def test_the_command(dense, text, trellis, tmp_path):
    arguments = ["tune", trellis, tmp_path / "out", "--teacher", dense, "--text", text]
    arguments += ["--steps", 2, "--batch", 1, "--length", 32, "--jobs", 1]
    done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    assert "of 14 encoded weights and 5 norms and biases, trained on 2 sequences of 32 tokens" in done.stdout
    assert "step 0: held out" in done.stderr
    assert "step 2: held out" in done.stderr
    again = CliRunner().invoke(cli, list(map(str, arguments)))
    assert isinstance(again.exception, DestinationError)


def test_what_cannot_be_tuned(dense, text, trellis, tmp_path):
    out = tmp_path / "out"
    how = {"teacher": dense, "text": text}
    short = tmp_path / "short"
    short.write_text("w1 w2 " * 20)
    exact = tmp_path / "exact"
    xorpack.encode_checkpoint(dense, exact, lossless=True)
    bare = tmp_path / "bare"
    shutil.copytree(dense, bare, ignore=shutil.ignore_patterns("tokenizer*"))
    for error, message, arguments in (
        (ParameterError, "directory to write, or delta", {**how, "delta": tmp_path / "d"}),
        (ParameterError, "steps", {**how, "steps": 0}),
        (ParameterError, "learning_rate", {**how, "learning_rate": -1.0}),
        (FormatError, "the teacher is the dense model", {**how, "teacher": trellis}),
        (ParameterError, "40 tokens, less than two sequences of 512", {**how, "text": short}),
        (xorpack.SourceError, "no tokenizer", {**how, "teacher": bare}),
    ):
        with pytest.raises(error, match=message):
            tune(trellis, out, **arguments)
    with pytest.raises(FormatError, match="not one that xorpack encoded"):
        tune(dense, out, **how)
    with pytest.raises(ParameterError, match="no quantized weight"):
        tune(exact, out, **{**how, "length": 32})
    assert not out.exists()
