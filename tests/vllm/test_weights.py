"""What stands in a layer of vLLM, loaded as vLLM loads, without vLLM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import xorpack
from xorpack.errors import CorruptError, FormatError, ParameterError

torch = pytest.importorskip("torch")

from xorpack.encoding.fields import signs  # noqa: E402
from xorpack.files.cuts import Cut  # noqa: E402
from xorpack.torch.arrays import to_torch  # noqa: E402
from xorpack.vllm.names import read  # noqa: E402
from xorpack.vllm.weights import Stack  # noqa: E402

Make = Callable[..., Path]

SHAPES = {"q.weight": (96, 128), "k.weight": (32, 128), "v.weight": (32, 128)}
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}
SHARDS = ("q", "k", "v")


@pytest.fixture
def directory(make: Make) -> Path:
    return make(SHAPES, bits=2, exclude=["v"])


def sections(directory: Path, name: str, shard: Any = None) -> Iterator[tuple[str, Any]]:
    """What vLLM's loader hands to a layer of one tensor: its name within the weight, and itself."""
    for key, array in load_file(directory / "model.safetensors").items():
        if key == name or key.startswith(f"{name}.xor_"):
            tensor = to_torch(array)
            tensor.shard_id = shard
            yield key.removeprefix(name).removeprefix("."), tensor


def stack(directory: Path, *names: str) -> Stack:
    parts = read(directory).parts
    return Stack("layer", [parts[name] for name in names], torch.float32)


def dense(directory: Path, *names: str) -> Any:
    with xorpack.open(directory) as tensors:
        decoded = {name: xorpack.decode(tensors[name]).dequantize() for name in tensors}
    decoded |= load_file(directory / "model.safetensors")
    return torch.from_numpy(np.concatenate([decoded[name] for name in names]))


def loaded(directory: Path, *, in_turn: bool = False) -> Stack:
    fused = stack(directory, "q.weight", "k.weight", "v.weight")
    for shard in reversed(SHARDS):
        if in_turn:
            for name, tensor in sections(directory, f"{shard}.weight"):
                parameter = dict(fused.named_parameters())[name] if name else fused
                parameter.weight_loader(parameter, tensor, shard)
        else:
            given = list(sections(directory, f"{shard}.weight", shard))
            assert list(fused.load_weights(given)) == [name for name, _ in given]
    fused.seal()
    return fused


def test_binary_codes_under_a_prefix_code(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CONFIG_BYTES", "DEPTH_BYTES"):
        monkeypatch.setattr(signs, name, 0)
    directory = make(SHAPES, bits=3, sparsity=0.5, symbols="entropy")
    assert any(key.endswith(".xor_field") for key in load_file(directory / "model.safetensors"))
    fused = loaded(directory)
    x = torch.randn(5, 128, generator=torch.Generator().manual_seed(1))
    wanted = x @ dense(directory, *(f"{shard}.weight" for shard in SHARDS)).T
    torch.testing.assert_close(fused.product(x), wanted, **ROUNDING)


PARALLEL = {f"{x}_proj.weight": SHAPES[f"{x}.weight"] for x in SHARDS} | {"o_proj.weight": (128, 96)}


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_device_takes_its_pieces(make: Make, rank: int, in_turn: bool) -> None:
    """Of a part that is carried it takes them out of the whole."""
    directory = make(PARALLEL, bits=2, tp=2, exclude=["v_proj"])
    named, files = read(directory), load_file(directory / "model.safetensors")
    assert {name: part.shape for name, part in named.parts.items()} == PARALLEL
    assert read(directory, 6)
    for names, axis in ((list(PARALLEL)[:3], 0), (["o_proj.weight"], 1)):
        cut = Cut(axis, rank, 2)
        parts = [named.parts[name] for name in names]
        halves = [replace(part, shape=cut.of(np.empty(part.shape)).shape) for part in parts]
        fused = Stack("layer", halves, torch.float32, cut)
        for shard, name in enumerate(names):
            given = [(key, to_torch(files[key])) for key in files if key.startswith(name)]
            keys = [key.removeprefix(name).removeprefix(".") for key, _ in given]
            for (_, tensor), key in zip(given, keys, strict=True):
                tensor.shard_id = shard
                if in_turn:
                    parameter = dict(fused.named_parameters())[key] if key else fused
                    parameter.weight_loader(parameter, tensor, shard)
                else:
                    assert list(fused.load_weights([(key, tensor)])) == [key]
        fused.seal()
        with xorpack.open(directory) as tensors:
            twin = [
                cut.of(files[name])
                if name in files
                else xorpack.decode(tensors[f"{name}.{cut.suffix}"]).dequantize()
                for name in names
            ]
        x = torch.randn(3, twin[0].shape[1])
        expected = x @ torch.from_numpy(np.concatenate(twin)).T
        torch.testing.assert_close(fused.product(x), expected, **ROUNDING)


@pytest.mark.parametrize("in_turn", [False, True])
def test_parts_come_in_any_order_and_multiply_as_one_weight(directory: Path, in_turn: bool) -> None:
    fused, twin = loaded(directory, in_turn=in_turn), dense(directory, "q.weight", "k.weight", "v.weight")
    assert fused.shape == twin.shape
    assert fused.dtype == torch.float32
    x, bias = torch.randn(3, 5, 128), torch.randn(160)
    for given in (None, bias):
        torch.testing.assert_close(
            fused.product(x, given), torch.nn.functional.linear(x, twin, given), **ROUNDING
        )


def test_sealing_twice_changes_nothing_and_no_placeholder_is_left(directory: Path) -> None:
    fused = loaded(directory)
    kept = dict(fused.named_modules())
    fused.seal()
    assert dict(fused.named_modules()) == kept
    assert [name for name, _ in fused.named_parameters()] == ["part_2"]
    assert all(name.startswith(("part_0.xor_", "part_1.xor_")) for name, _ in fused.named_buffers())


def test_rows_of_a_table_are_looked_up(directory: Path) -> None:
    table = stack(directory, "q.weight")
    list(table.load_weights(sections(directory, "q.weight")))
    table.seal()
    indices = torch.tensor([[3, 95], [0, 3]])
    assert torch.equal(table.lookup(indices), dense(directory, "q.weight")[indices])


@pytest.mark.parametrize("section", ["code", "corrections", "mask", "scales"])
def test_a_section_that_was_not_loaded_is_an_error(directory: Path, section: str) -> None:
    one = stack(directory, "q.weight")
    given = [(key, tensor) for key, tensor in sections(directory, "q.weight") if key != f"xor_{section}"]
    list(one.load_weights(given))
    with pytest.raises(FormatError, match=f"'q.weight': {section} was not loaded"):
        one.seal()


def test_a_tensor_that_was_not_loaded_is_an_error(directory: Path) -> None:
    fused = stack(directory, "q.weight", "k.weight", "v.weight")
    with pytest.raises(FormatError, match=r"'layer': 0 of 3 tensors were loaded of 'q.weight', 'k.weight'"):
        fused.seal()
    for shard in "qv":
        list(fused.load_weights(sections(directory, f"{shard}.weight", shard)))
    with pytest.raises(FormatError, match="2 of 3"):
        fused.seal()


def test_sections_of_another_tensor_are_an_error(directory: Path) -> None:
    fused = stack(directory, "q.weight", "k.weight")
    list(fused.load_weights(sections(directory, "q.weight", "k")))
    list(fused.load_weights(sections(directory, "k.weight", "q")))
    with pytest.raises(FormatError, match=r"'q\.weight'"):
        fused.seal()


def test_bytes_that_changed_are_an_error(directory: Path) -> None:
    one = stack(directory, "q.weight")
    given = dict(sections(directory, "q.weight"))
    given["xor_scales"][0] += 1
    list(one.load_weights(given.items()))
    with pytest.raises(CorruptError, match=r"'q\.weight'"):
        one.seal()


def test_a_carried_part_of_another_shape_is_an_error(directory: Path) -> None:
    fused = stack(directory, "q.weight", "v.weight")
    list(fused.load_weights(sections(directory, "q.weight", 0)))
    (key, tensor), = sections(directory, "v.weight")  # fmt: skip
    tensor = tensor[:16]
    tensor.shard_id = 1
    list(fused.load_weights([(key, tensor)]))
    with pytest.raises(FormatError, match=r"'v\.weight' is \(32, 128\), and was loaded as \(16, 128\)"):
        fused.seal()


def test_code_that_would_cut_a_weight_is_stopped(directory: Path) -> None:
    parameter = stack(directory, "q.weight").xor_code
    with pytest.raises(ParameterError, match="rows are reordered while vLLM loads them"):
        getattr(parameter, "output_dim", None)
