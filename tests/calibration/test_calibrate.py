"""Calibration with a tiny Llama: what is summed, what is shared, files, errors, and encode --hessian at the end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from small_llama import make_model, written

import xorpack
from xorpack.encoding.fitting.hessian import output_error
from xorpack.errors import DataError, DestinationError, FormatError, ParameterError, SourceError
from xorpack.files.hessians import Hessians

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from xorpack.calibration.collect import Collector  # noqa: E402
from xorpack.calibration.gradients import squared_gradients  # noqa: E402
from xorpack.calibration.run import calibrate  # noqa: E402


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), spread=0.02)  # transformers' own


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return written(tmp_path_factory.mktemp("text") / "text.txt", 400)


@pytest.fixture(scope="module")
def stats(model, text, tmp_path_factory):
    path = tmp_path_factory.mktemp("stats") / "stats.safetensors"
    report = calibrate(model, text, path, sequences=4, length=64)
    assert (report.n_layers, report.n_matrices, report.n_sequences) == (15, 9, 4)
    assert report.uncalled == ()
    assert report.thin is None
    assert report.n_gradients == 15
    assert report.n_bytes == path.stat().st_size
    return path


def loaded(root):
    return transformers.LlamaForCausalLM.from_pretrained(root, dtype=torch.float32).eval()


def test_the_sums_are_of_what_the_layers_are_given(model, text, stats):
    network, seen = loaded(model), []
    layer = network.model.layers[1].mlp.down_proj
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().reshape(-1, 96).double()))
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    ids = torch.tensor(tokenizer(text.read_text())["input_ids"][:256]).reshape(4, 64)
    for row in ids:
        network(row[None])
    x = torch.cat(seen).numpy()
    found = Hessians(stats)
    assert np.allclose(found["model.layers.1.mlp.down_proj.weight"], x.T @ x, rtol=1e-4, atol=1e-5)
    assert found.size("model.layers.1.mlp.down_proj.weight") == 96


def test_gradients_are_those_of_the_loss_by_what_layers_give_out(model, text, stats):
    network, kept = loaded(model), []
    layer = network.model.layers[0].self_attn.k_proj
    layer.register_forward_hook(lambda _, args, output: kept.append(output) or output.retain_grad())
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    ids = torch.tensor(tokenizer(text.read_text())["input_ids"][:256]).reshape(4, 64)
    for row in ids:
        (63 * network(row[None], labels=row[None]).loss).backward()  # a sum over the tokens that are foretold
    g = torch.cat([output.grad[0] for output in kept]).double().numpy()
    found = Hessians(stats).gradients("model.layers.0.self_attn.k_proj.weight")
    assert np.allclose(found, (g**2).mean(0), rtol=1e-3)
    assert found.shape == (32,)


def test_gradients_can_be_left_out(model, text, tmp_path):
    report = calibrate(model, text, tmp_path / "x", sequences=2, length=16, gradients=False)
    assert report.n_gradients == 0
    assert "no gradients were taken" in report.notes[-1]
    assert Hessians(tmp_path / "x").gradients("model.layers.0.self_attn.k_proj.weight") is None


def test_layers_of_the_same_input_share_a_matrix_which_any_tool_reads(stats):
    plain = load_file(stats)
    assert sum(name.endswith(".hessian") for name in plain) == 9
    assert all(int(plain[name][0]) == 256 for name in plain if name.endswith(".rows"))
    found = Hessians(stats)
    attention = [found[f"model.layers.0.self_attn.{p}_proj.weight"] for p in "qkv"]
    assert np.array_equal(attention[0], attention[1])
    assert np.array_equal(attention[0], attention[2])
    assert not np.array_equal(attention[0], found["model.layers.0.self_attn.o_proj.weight"])


def test_little_memory_gives_the_same_sums(model, text, stats, tmp_path):
    told = []
    calibrate(
        model,
        text,
        tmp_path / "x",
        sequences=4,
        length=64,
        memory=40_000,
        progress=lambda *args: told.append(args),
    )
    assert (tmp_path / "x").read_bytes() == stats.read_bytes()
    assert len(told) == told[0][2] > 8


@pytest.fixture(scope="module")
def guided(model, text, tmp_path_factory):
    path = tmp_path_factory.mktemp("guided") / "stats.safetensors"
    report = calibrate(model, text, path, sequences=4, length=64, guided=True)
    assert (report.n_layers, report.n_matrices) == (15, 15)
    return path


def tokens(model, text):
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    return torch.tensor(tokenizer(text.read_text())["input_ids"][:256]).reshape(4, 64)


def test_guided_sums_are_weighed_by_gradients_of_each_tokens_loss(model, text, guided, stats):
    network, seen = loaded(model), []
    layer = network.model.layers[0].self_attn.k_proj
    layer.register_full_backward_hook(lambda _, __, g: seen.append(g[0].reshape(-1, 32).double()))
    inputs = []
    layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0].detach().reshape(-1, 64).double()))
    for row in tokens(model, text):
        logits = network(row[None]).logits[0, :-1]
        torch.nn.functional.cross_entropy(logits, row[1:], reduction="sum").backward()
    g, x = torch.cat(seen).numpy(), torch.cat(inputs).numpy()
    wanted = np.zeros((64, 64))
    for part in (slice(64 * i, 64 * i + 64) for i in range(4)):
        plain, felt = x[part].T @ x[part], (x[part].T * (g[part] ** 2).mean(1)) @ x[part]
        wanted += 64 * (0.8 * plain / np.trace(plain) + 0.2 * felt / np.trace(felt))
    found, name = Hessians(guided), "model.layers.0.self_attn.k_proj.weight"
    assert np.allclose(found[name], wanted, rtol=1e-3, atol=1e-5 * np.abs(wanted).max())
    assert np.array_equal(found.outputs(name), found.gradients(name))
    costs = found.gradients(name)  # errors alike in all directions cost what the loss feels of each input
    assert np.isclose(costs.sum() * np.trace(found[name]), ((g**2).sum(1) * (x**2).sum(1)).sum(), rtol=1e-3)
    assert np.allclose(costs / costs.sum(), (g**2).sum(0) / (g**2).sum(), rtol=1e-3)
    assert not np.allclose(
        found[name] / np.trace(found[name]), Hessians(stats)[name] / np.trace(Hessians(stats)[name])
    )
    assert not np.array_equal(found[name], found["model.layers.0.self_attn.v_proj.weight"])
    assert found.guided
    assert not Hessians(stats).guided
    assert Hessians(stats).outputs(name) is None
    plain = load_file(guided)
    assert {name.rpartition(".")[2] for name in plain} == {"hessian", "rows", "gradients"}


def test_outputs_count_alike_in_a_layer_that_the_loss_does_not_feel(tmp_path):
    arrays = {"a.hessian": np.eye(2, dtype=np.float32), "a.rows": np.ones(1, np.uint32)}
    for gradients in (np.zeros(3, np.float32), np.ones(3, np.float32)):
        arrays["a.weight.gradients"] = gradients
        document = {"layers": {"a.weight": "a"}, "version": 2}
        save_file(arrays, tmp_path / "x", {"xorpack_hessians": json.dumps(document)})
        found = Hessians(tmp_path / "x").outputs("a.weight")
        assert (found is None) == (not gradients.any())
    assert Hessians(tmp_path / "x").outputs("b.weight") is None


def test_little_memory_gives_the_same_guided_sums(model, text, guided, tmp_path):
    calibrate(model, text, tmp_path / "x", sequences=4, length=64, guided=True, memory=40_000)
    a, b = load_file(tmp_path / "x"), load_file(guided)
    assert all(np.allclose(a[name], b[name], rtol=1e-4, atol=1e-7) for name in b)


def test_a_guided_fit_loses_less_of_what_the_loss_is_sensitive_to(model, guided, stats, tmp_path):
    options = {"rate": 2.0, "exclude": ["embed_tokens"]}
    known, errors = Hessians(guided), []
    for found in (guided, stats):
        xorpack.encode_checkpoint(model, tmp_path / found.parent.name, hessian=found, **options)
        with xorpack.open(tmp_path / found.parent.name) as checkpoint:
            total = 0.0
            for name in (n for n in known if "lm_head" not in n):
                e = (
                    load_file(model / "model.safetensors")[name]
                    - xorpack.decode(checkpoint[name]).dequantize()
                )
                share = known.outputs(name) / known.outputs(name).mean()
                total += float((share * np.einsum("rc,cd,rd->r", e, known[name], e)).sum())
            errors.append(total)
    assert errors[0] < 0.95 * errors[1]


def test_a_model_without_logits_is_not_guided(model):
    network = loaded(model)
    with pytest.raises(ParameterError, match="guided needs a model that predicts tokens"):
        list(Collector(network.model, torch.randint(0, 60, (2, 16)), guided=True).matrices())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 3}, "of version 3; this xorpack reads 1 and 2"),
        ({"version": []}, r"of version \[\]"),
        (np.ones((2, 2), np.float32), r"gradients of 'a.weight' are F32 of shape \(2, 2\)"),
        (np.ones(2, np.float64), "gradients of 'a.weight' are F64"),
    ],
)
def test_guided_files_that_are_wrong_are_refused(tmp_path, change, why):
    arrays = {"a.hessian": np.eye(2, dtype=np.float32), "a.rows": np.ones(1, np.uint32)}
    document = {"layers": {"a.weight": "a"}, "version": 2}
    if isinstance(change, dict):
        document |= change
    else:
        arrays["a.weight.gradients"] = change
    save_file(arrays, tmp_path / "x", {"xorpack_hessians": json.dumps(document)})
    with pytest.raises(FormatError, match=why):
        Hessians(tmp_path / "x")


def test_a_fitted_checkpoint_loses_less_of_what_layers_give_out(model, stats, tmp_path):
    options = {"rate": 2.0, "exclude": ["embed_tokens"]}
    plain = xorpack.encode_checkpoint(model, tmp_path / "plain", **options)
    fitted = xorpack.encode_checkpoint(model, tmp_path / "fitted", hessian=stats, **options)
    again = xorpack.encode_checkpoint(model, tmp_path / "again", hessian=stats, jobs=2, **options)
    assert fitted.output_errors == again.output_errors
    assert set(fitted.output_errors) == set(fitted.accounts)
    guess = xorpack.encode_checkpoint(model, tmp_path / "no", hessian=stats, dry_run=True, **options)
    gains = {name: account.section_bytes["gains"] for name, account in fitted.accounts.items()}
    assert gains == {name: account.section_bytes["gains"] for name, account in guess.accounts.items()}
    assert gains["model.layers.1.mlp.down_proj.weight"] == 2 * 96
    assert not plain.output_errors
    name = "model.layers.1.mlp.down_proj.weight"
    weight, hessian = load_file(model / "model.safetensors")[name], Hessians(stats)[name]
    errors = []
    for out in ("plain", "fitted"):
        with xorpack.open(tmp_path / out) as checkpoint:
            errors.append(output_error(weight, xorpack.decode(checkpoint[name]).dequantize(), hessian))
    assert errors[1] < 0.8 * errors[0]
    assert errors[1] == pytest.approx(fitted.output_errors[name], rel=1e-5)
    assert (tmp_path / "fitted/model.safetensors").read_bytes() == (
        tmp_path / "again/model.safetensors"
    ).read_bytes()
    xorpack.verify_checkpoint(tmp_path / "fitted")


def test_a_few_zeros_that_a_fit_does_not_keep_are_no_fault(model, stats, tmp_path):
    source = shutil.copytree(model, tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    weights[name][:3] = 0
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    options = {"rate": 2.0, "include": [name]}
    xorpack.encode_checkpoint(source, tmp_path / "fitted", hessian=stats, **options)
    assert xorpack.verify_checkpoint(tmp_path / "fitted", against=source).errors[name] > 0
    xorpack.encode_checkpoint(source, tmp_path / "pruned", bits=2, include=[name])
    weights[name][3] = 0
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(xorpack.MismatchError, match="96 weights that are 0 in the source are not"):
        xorpack.verify_checkpoint(tmp_path / "pruned", against=source)


def test_hessians_that_cannot_apply_are_refused(model, stats, tmp_path):
    for contradiction in ({"lossless": True}, {"method": "greedy"}):
        with pytest.raises(ParameterError, match="hessian fits weights to activations, which"):
            xorpack.encode_checkpoint(model, tmp_path / "x", hessian=stats, **contradiction)
    with pytest.raises(ParameterError, match="none of the tensors to encode"):
        xorpack.encode_checkpoint(model, tmp_path / "x", hessian=stats, rate=2.0, include=["embed_tokens"])
    with pytest.raises(FormatError, match="no file of Hessians"):
        xorpack.encode_checkpoint(model, tmp_path / "x", hessian=model / "model.safetensors", rate=2.0)
    with pytest.raises(FileNotFoundError):
        xorpack.encode_checkpoint(model, tmp_path / "x", hessian=tmp_path / "nowhere", rate=2.0)
    other = tmp_path / "other"
    arrays = {"a.hessian": np.eye(64, dtype=np.float32), "a.rows": np.ones(1, np.uint32)}
    arrays["model.layers.0.self_attn.q_proj.weight.gradients"] = np.ones(63, np.float32)
    layers = {"model.layers.0.self_attn.q_proj.weight": "a"}
    save_file(
        arrays, tmp_path / "outputs", {"xorpack_hessians": json.dumps({"layers": layers, "version": 2})}
    )
    with pytest.raises(ParameterError, match="has 64 outputs, and there are gradients of 63"):
        xorpack.encode_checkpoint(model, tmp_path / "x", hessian=tmp_path / "outputs", rate=2.0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(other)
    with pytest.raises(ParameterError, match="has 32 inputs, and its Hessian is of 64"):
        xorpack.encode_checkpoint(other, tmp_path / "x", hessian=stats, rate=2.0)
    assert not (tmp_path / "x").exists()


def test_bad_calibrations_are_refused(model, text, tmp_path):
    few = tmp_path / "few.txt"
    few.write_text("w1 w2 w3")
    with pytest.raises(ParameterError, match="3 tokens, less than one sequence of 64"):
        calibrate(model, few, tmp_path / "x", length=64)
    few.write_bytes(b"w1 \xff")
    with pytest.raises(FormatError, match="not UTF-8 at byte 3"):
        calibrate(model, few, tmp_path / "x")
    with pytest.raises(FormatError, match="one file is no model"):
        calibrate(model / "model.safetensors", text, tmp_path / "x")
    with pytest.raises(DestinationError, match="exists"):
        calibrate(model, text, few)
    with pytest.raises(ParameterError, match="sequences = 0"):
        calibrate(model, text, tmp_path / "x", sequences=0)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).write_bytes((model / name).read_bytes())
    with pytest.raises(SourceError, match="no tokenizer"):
        calibrate(bare, text, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_nan_and_layers_that_are_never_called_are_named(model):
    network, tokens = loaded(model), torch.randint(0, 60, (2, 16))
    network.model.layers[1].extra = torch.nn.Linear(7, 3)
    collector = Collector(network, tokens)
    rows = {key: n for key, _, n in collector.matrices()}
    assert collector.uncalled == ["model.layers.1.extra.weight"]
    assert rows["model.layers.1.extra"] == 0
    assert rows["model.layers.1.mlp.down_proj"] == 32
    tokens[1, 3] = 61
    inputs = network.model.embed_tokens
    inputs.register_forward_hook(lambda _, args, out: out.masked_fill(args[0][..., None] == 61, torch.nan))
    with pytest.raises(DataError, match="the model's loss is nan in piece 1 of the text"):
        squared_gradients(network, tokens, collector.modules)
    with pytest.raises(DataError, match=r"layer 'model.layers.0.* is given NaN or infinity in sequence 1"):
        list(Collector(network, tokens).matrices())
    with pytest.raises(DataError, match="the model's loss is nan in a sequence of the text"):
        list(Collector(network.requires_grad_(), tokens, guided=True).matrices())
    with torch.no_grad():
        network.model.layers[0].mlp.up_proj.weight[:] = float("inf")
    with pytest.raises(  # before the model runs over all of a text
        DataError, match=r"layer 'model.layers.0.mlp.down_proj' is given NaN or infinity in sequence 0"
    ):
        Collector(network, tokens)
    with pytest.raises(DataError, match="no linear layer is called"):
        Collector(torch.nn.Embedding(64, 3), tokens)


def test_the_command_line(model, text, tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "xorpack", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    done = run("calibrate", model, text, "-o", tmp_path / "g", "--guided", "--sequences", 2, "--length", 16)
    assert done.returncode == 0, done.stderr
    assert "15 Hessians of 15 layers, guided, from 2 sequences of 16 tokens" in done.stdout
    done = run("calibrate", model, text, "-o", tmp_path / "s", "--sequences", 2, "--length", 16)
    assert done.returncode == 0, done.stderr
    assert "9 Hessians of 15 layers, from 2 sequences of 16 tokens" in done.stdout
    assert "32 tokens are fewer than twice the 96 inputs of the widest layer" in done.stderr
    done = run(
        "encode", model, tmp_path / "y", "--rate", 3, "--hessian", tmp_path / "s", "--exclude", "embed_tokens"
    )
    assert done.returncode == 0, done.stderr
    assert "fitted to activations: 14 of 14 tensors; squared error of their outputs" in done.stdout
    assert json.loads((tmp_path / "y/config.json").read_text())["quantization_config"]["rate"] == 3
