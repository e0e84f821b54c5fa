"""Models in memory: their weights are encoded where they stand."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import torch
from torch import nn

from xorpack import checks
from xorpack.checkpoint.encode import EncodingRun
from xorpack.checkpoint.plan import CheckpointPlan
from xorpack.checkpoint.settings import EncodeReport, Progress, Settings, SettingsOptions
from xorpack.errors import ParameterError
from xorpack.files.safetensors_file import StoredTensor
from xorpack.files.sizes import encoded_bytes
from xorpack.torch.arrays import TORCH, to_numpy
from xorpack.torch.modules import keeps_lists, put, tie
from xorpack.torch.weight import XorWeight

_NAMES = {dtype: name for name, dtype in TORCH.items()} | {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.bool: "BOOL",
}


def encode_module(
    model: nn.Module,
    *,
    settings: Settings | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    jobs: int = 1,
    progress: Progress | None = None,
    **options: Unpack[SettingsOptions],
) -> EncodeReport:
    """Encode weights of a model in memory, as :func:`xorpack.encode_checkpoint` would encode those of its checkpoint.

    Parameters are selected by their names, encoded, and replaced by modules (:class:`xorpack.torch.XorWeight`) that
    decode to their type on their device. Those that are one parameter stay one. All are encoded before the first is
    replaced, so that an error leaves the model as it was.

    Args:
        model: changed in place.
        settings: how to prune and quantize; or give the fields of :class:`xorpack.Settings` as keywords.
        include: patterns of the parameters to take, see :mod:`xorpack.files.selection`.
        exclude: patterns of those to leave out.
        jobs: threads. What is made does not depend on it.
        progress: told of every parameter that is done.
        options: fields of :class:`xorpack.Settings`.

    Returns:
        what became of each parameter; sizes count those that are not encoded, too.

    Raises:
        ParameterError: a setting breaks its rule, a pattern matches nothing, a parameter has no bytes.
        DataError: weights that cannot be encoded so: NaN or infinity where BCQ needs numbers.
        SelfCheckError: an encoded tensor does not decode to what was encoded.
    """
    if not isinstance(model, nn.Module):
        raise ParameterError(f"a {type(model).__name__} is no module of PyTorch")
    if settings is not None and options:
        raise ParameterError("give settings or its fields, not both")
    chosen = settings or Settings(**options)
    chosen.check(options)
    checks.whole("jobs", jobs, 1)
    places = _places(model)
    tensors = {name: _stored(name, model.get_parameter(name)) for name in places}
    unsuitable = {
        name: "of a layer that keeps its weights in lists"
        for name, found in places.items()
        if any(keeps_lists(module) for module, _ in found)
    }
    plan = CheckpointPlan(chosen, tensors, include, exclude, unsuitable)
    run = EncodingRun(plan, sum(stored.n_bytes for stored in tensors.values()), jobs=jobs, progress=progress)
    run.choose_quantizers()
    encoded = run.encode()
    for name, tensor in encoded.items():
        parameter = model.get_parameter(name)
        weight = XorWeight.of(tensor, name=name, dtype=parameter.dtype).to(parameter.device)
        (first, leaf), *others = places[name]
        put(first, leaf, weight)
        for module, alias in others:
            tie(module, alias, weight)
    run.report.stored_bytes = sum(
        encoded_bytes(name, encoded[name]) if name in encoded else stored.n_bytes
        for name, stored in tensors.items()
    )
    return run.report


def _places(model: nn.Module) -> Mapping[str, list[tuple[nn.Module, str]]]:
    """The layers that have each parameter, and its name there, by its first name in the model."""
    names: dict[int, str] = {}
    places: dict[str, list[tuple[nn.Module, str]]] = defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        parent, _, leaf = name.rpartition(".")
        places[names.setdefault(id(parameter), name)].append((model.get_submodule(parent), leaf))
    return {name: list(dict.fromkeys(found)) for name, found in places.items()}


def _stored(name: str, parameter: nn.Parameter) -> StoredTensor:
    if parameter.is_meta:
        raise ParameterError(f"parameter {name!r} has no bytes: it is on the meta device")
    known = _NAMES.get(parameter.dtype)
    array = to_numpy(parameter if known else parameter.view(torch.uint8))
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return StoredTensor(known or str(parameter.dtype), tuple(parameter.shape), data)
