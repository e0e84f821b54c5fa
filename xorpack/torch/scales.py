"""Scales that are trained while everything else of encoded weights stays as it is (AlphaTuning, arXiv 2210.03858).

A trained scale is a float32 parameter of the value that the stored one stands for. Its gradient is that of the dense
weight ``W``, summed over the columns of its group: of plane k of binary codes ``dW * b_k`` where the mask keeps, of a
trellis ``dW * w / s`` but for the outliers, which have no scale. Rounding of ``W`` to its type has derivative 1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xorpack.code.scales import scale_octets, scale_values
from xorpack.decoders.content import content_sha256
from xorpack.elements import Lossless
from xorpack.encoded import sections_sha256
from xorpack.errors import DataError, FormatError, MismatchError, ParameterError
from xorpack.files import safetensors_file
from xorpack.files.atomic import atomic_file
from xorpack.files.rebuild import from_sections
from xorpack.files.record import to_record
from xorpack.files.safetensors_file import StoredTensor
from xorpack.torch.arrays import to_numpy, to_torch
from xorpack.torch.weight import PREFIX, SCALES, XorWeight

METADATA = "xorpack_scales"
"""The key of a file's metadata that says it holds scales, and of which weights."""

VERSION = 1

TRAINED = ("scales", "gains")
"""Sections that training changes."""


def trainable_scales(model: nn.Module) -> list[nn.Parameter]:
    """Make parameters of all scales of a model's quantized weights, and give them, float32, for an optimizer.

    The weights are what they were before. The model's state dict holds scales as float32 now, which
    :func:`freeze_scales` ends; until then it is a state to resume from, and not what a file of encoded tensors holds.
    Called again, it gives the same parameters.

    Raises:
        ParameterError: the model has no quantized weight.
    """
    found = [weight for _, weight in _quantized(model)]
    if not found:
        raise ParameterError(f"{type(model).__name__} has no quantized weight: lossless ones have no scales")
    return [_train(weight) for weight in found]


def freeze_scales(model: nn.Module) -> None:
    """Round trained scales to the type that they were stored in, so that the state dict is what a file holds again.

    Octets hold scales from 0 to 1, in steps of 2.2 %, and negative ones become 0; a tensor that has a larger one
    gets float16 instead. Records get new digests.

    Raises:
        DataError: a scale is NaN or infinite.
    """
    for name, weight in _quantized(model):
        if weight.trained is not None:
            put_values(weight, {"scales": to_numpy(weight.trained)}, name, weight.scales_dtype)


def put_values(
    weight: XorWeight, values: Mapping[str, NDArray[np.float32]], name: str, dtype: torch.dtype
) -> None:
    """Let scales, and gains where they are given, be those of a weight, rounded to the types that they are stored in.

    Args:
        weight: changed; its record gets new digests.
        values: float32, by the names of their sections.
        name: of the weight, for messages.
        dtype: that scales are stored in where it holds them.

    Raises:
        DataError: one is NaN or infinite, or a gain is more than float16 holds.
    """
    for what, array in values.items():
        if not np.isfinite(array).all():
            raise DataError(f"weight {name!r}: {what} are NaN or infinite")
    rounded: dict[str, NDArray[Any]] = {"scales": _rounded(values["scales"], dtype)}
    if "gains" in values:
        with np.errstate(over="ignore"):
            rounded["gains"] = values["gains"].astype(np.float16)
        if not np.isfinite(rounded["gains"]).all():
            raise DataError(f"weight {name!r}: a gain of {np.abs(values['gains']).max():.3g} is no float16")
    _freeze(weight, rounded)


def save_scales(model: nn.Module, path: str | Path, *, overwrite: bool = False) -> None:
    """Write the scales of all quantized weights of a model, and their gains: what a task changes of a base model.

    The file is a safetensors file of ``NAME.xor_scales`` and, of weights that have them, ``NAME.xor_gains``, bound to
    everything else of these weights by digests.

    Args:
        model: whose scales are frozen.
        path: of the file.
        overwrite: replace what stands there.

    Raises:
        ParameterError: scales are still trained, or there are none.
        DestinationError: the file exists, or cannot be written.
    """
    weights = _frozen(model)
    tensors = {
        f"{name}.xor_{section}": StoredTensor.of(to_numpy(tensor))
        for name, weight in weights.items()
        for section, tensor in weight.sections().items()
        if section in TRAINED
    }
    base = {name: _base_sha256(weight) for name, weight in weights.items()}
    tensors = safetensors_file.by_alignment(tensors)
    header = safetensors_file.header_bytes(
        tensors, {METADATA: json.dumps({"version": VERSION, "base": base})}
    )
    with atomic_file(Path(path), overwrite=overwrite) as temporary:
        safetensors_file.write(temporary, tensors, header)


def load_scales(model: nn.Module, path: str | Path) -> None:
    """Put the scales and gains of a file into a model of the same base; all of them, or after an error none.

    Raises:
        FormatError: it is no file of :func:`save_scales`.
        MismatchError: the model has other weights than those that the scales were trained with.
        ParameterError: the model's scales are being trained, or it has none.
    """
    file = safetensors_file.read(Path(path))
    base, weights = _base_of(file), _frozen(model)
    if unknown := sorted(set(base) - set(weights)):
        raise MismatchError(f"{path}: the model has no quantized weight {unknown[0]!r}")
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, sha256 in base.items():
        if _base_sha256(weights[name]) != sha256:
            raise MismatchError(
                f"{path}: scales of {name!r} were trained with other codes than the model has"
            )
        found[name] = {}
        for section in TRAINED:
            own, stored = weights[name].sections().get(section), file.tensors.get(f"{name}.xor_{section}")
            if own is None or stored is None:
                if (own is None) != (stored is None):
                    raise MismatchError(f"{path}: either it or the model has no {section} of {name!r}")
                continue
            array = found[name][section] = stored.array()
            if array.shape != tuple(own.shape):
                raise MismatchError(f"{path}: {section} of {name!r} are of shape {array.shape}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise FormatError(f"{path}: {section} of {name!r} are NaN or infinite")
    for name, arrays in found.items():
        _freeze(weights[name], arrays)


def _quantized(model: nn.Module) -> Iterator[tuple[str, XorWeight]]:
    for name, module in model.named_modules():
        if isinstance(module, XorWeight) and module.record["kind"] != Lossless.KIND:
            yield name, module


def _frozen(model: nn.Module) -> dict[str, XorWeight]:
    weights = dict(_quantized(model))
    if not weights:
        raise ParameterError(f"{type(model).__name__} has no quantized weight, and so no scales")
    for name, weight in weights.items():
        if weight.trained is not None:
            raise ParameterError(f"weight {name!r}: its scales are being trained; call freeze_scales first")
    return weights


def _train(weight: XorWeight) -> nn.Parameter:
    if weight.trained is None:
        stored = weight.xor_scales
        values = scale_values(to_numpy(stored))
        del weight.xor_scales
        weight.scales_dtype = stored.dtype
        weight.register_parameter(SCALES, nn.Parameter(to_torch(values).to(stored.device)))
    trained = weight.trained
    assert isinstance(trained, nn.Parameter)
    return trained


def _rounded(values: NDArray[np.float32], dtype: torch.dtype) -> NDArray[Any]:
    """Scales in the type asked for, or in the next one that holds them."""
    if dtype == torch.uint8 and values.max(initial=0) <= 1:
        return scale_octets(values.astype(np.float64))
    with np.errstate(over="ignore"):
        half = values.astype(np.float16)
    lost = ~np.isfinite(half) | ((half == 0) & (values != 0))
    return values if dtype == torch.float32 or lost.any() else half


def _freeze(weight: XorWeight, sections: Mapping[str, NDArray[Any]]) -> None:
    """Let these be sections of a weight, and the record one of them."""
    arrays = {name: to_numpy(tensor) for name, tensor in weight.sections().items()} | dict(sections)
    encoded = from_sections(weight.record, arrays, name=weight.name, verify=False)
    encoded.elements.check_values()
    encoded = replace(encoded, content_sha256=content_sha256(encoded))
    device = weight.device
    del weight.xor_scales
    for name, array in sections.items():
        weight.register_buffer(PREFIX + name, to_torch(array).to(device))
    weight.record = to_record(encoded)
    weight.seal()


def _base_sha256(weight: XorWeight) -> str:
    """SHA-256 of everything of a weight but its scales and gains."""
    record = {
        k: v for k, v in weight.record.items() if k not in ("stored_sha256", "content_sha256", "method")
    }
    sections = weight.encoded().sections()
    others = sections_sha256({name: array for name, array in sections.items() if name not in TRAINED})
    return hashlib.sha256((json.dumps(record, sort_keys=True) + others).encode()).hexdigest()


def _base_of(file: safetensors_file.SafetensorsFile) -> Mapping[str, str]:
    """Digests by the name of each weight whose scales a file holds."""
    text = file.metadata.get(METADATA)
    said = None if text is None else safetensors_file.parse_json(text)
    if not isinstance(said, dict) or said.get("version") != VERSION or not isinstance(said.get("base"), dict):
        raise FormatError(f"{file.path}: no file of scales that this version reads")
    base: dict[str, str] = said["base"]
    known = {f"{name}.{SCALES}": ("U8", "F16", "F32") for name in base}
    gains = {f"{name}.xor_gains": ("F16",) for name in base}
    if not known.keys() <= set(file.tensors) <= known.keys() | gains.keys():
        raise FormatError(f"{file.path}: its tensors are not those that its metadata names")
    for name, stored in file.tensors.items():
        if stored.dtype not in (known | gains)[name]:
            raise FormatError(f"{file.path}: {name!r} is {stored.dtype}")
    return base
