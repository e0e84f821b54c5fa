"""What transformers calls while it loads, saves and decodes a model whose directory is encoded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.quantizers import HfQuantizer, register_quantizer

from xorpack import checks
from xorpack.cuda.device import import_cupy
from xorpack.errors import FormatError, ParameterError
from xorpack.files.model import GUARD_KEY, METHOD
from xorpack.files.record import VERSION, version_for
from xorpack.files.selection import abbreviated
from xorpack.hf.config import XorpackConfig
from xorpack.hf.experts import DecodeSections, with_sections
from xorpack.hf.homes import Encoded, Homes, check_complete, check_homes, find_homes, read_files
from xorpack.torch import XorWeight, decode_module, put, tie

STATE_DICT = "what is given as state_dict has to be left out"


@register_quantizer(METHOD)
class XorpackQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts encoded weights into a model before its files are loaded, so that their sections have somewhere to go."""

    def __init__(self, quantization_config: XorpackConfig, **kwargs: Any) -> None:
        if not kwargs.get("pre_quantized", True):
            raise ParameterError(
                "from_pretrained does not encode: `xorpack encode MODEL OUT` makes a directory that it loads"
            )
        super().__init__(quantization_config, **kwargs)

    def validate_environment(self, *args: Any, device_map: Any = None, **kwargs: Any) -> None:
        """Raise where the directory or the device asks for what is not installed.

        Raises:
            FormatError: a newer xorpack wrote the directory.
            ParameterError: it was encoded for tensor parallelism, or another tool had quantized it before.
            DeviceError: it is to run on CUDA, and CuPy is missing.
        """
        version = self.quantization_config.format_version
        if isinstance(version, int) and version > VERSION:
            raise FormatError(
                f"config.json says format version {version}, and this xorpack reads up to {VERSION}: pip install "
                f"--upgrade xorpack"
            )
        checks.quantized_by_xorpack(self.quantization_config.__dict__)
        if (tp := getattr(self.quantization_config, "tp", None)) is not None:
            raise ParameterError(
                f"config.json says that matrices were cut for vllm serve --tensor-parallel-size {tp}, and transformers "
                f"needs them whole: encode without --tp, or decode with `xorpack decode`"
            )
        if _is_cuda(device_map):
            import_cupy()

    def update_attn_implementation(self, config: Any) -> Any:
        """Take the guard out of the model's config, that stops transformers without this plug-in."""
        if GUARD_KEY in config.__dict__:
            delattr(config, GUARD_KEY)
        return config

    def preprocess_model(self, model: Any, *args: Any, checkpoint_files: Any = None, **kwargs: Any) -> Any:
        """Keep the files' names, which some versions do not pass on."""
        if not checkpoint_files or None in checkpoint_files:
            raise ParameterError(f"an encoded model is loaded from a directory: {STATE_DICT}")
        self._files, self._dtype = list(checkpoint_files), kwargs.get("dtype")
        return super().preprocess_model(model, *args, checkpoint_files=checkpoint_files, **kwargs)

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        tensors = read_files(self._files)
        names = [name for name, tensor in tensors.items() if tensor is not None]
        check_complete(names, self.quantization_config)
        homes = find_homes(model, tensors, get_model_conversion_mapping(model))
        check_homes(model, homes, len(names))
        self._homes = homes
        parameters = dict(model.named_parameters(remove_duplicate=False))
        plan = model._get_dtype_plan(self._dtype)
        for target, tensor in homes.direct.items():
            module, leaf = _place(model, target)
            dtype = _kept_in(plan, target, parameters[target].dtype)
            put(module, leaf, _empty(tensor, dtype))
            if dtype != parameters[target].dtype:
                module.register_forward_pre_hook(_cast_input)
        _tie(model, homes)
        homeless = "|".join(map(re.escape, homes.homeless))
        model._keys_to_ignore_on_load_unexpected.add(
            rf"^(?!({homeless})\.xor_).*\.xor_" if homeless else r"\.xor_"
        )
        return model

    def update_weight_conversions(self, weight_conversions: list[Any], model: Any = None) -> list[Any]:
        """Let converters that merge tensors, experts' for one, decode those that are encoded first."""
        changed = [with_sections(converter, self._homes) for converter in weight_conversions]
        self._originals = {id(new): old for new, old in zip(changed, weight_conversions, strict=True)}
        return changed

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> torch.dtype | None:
        """Sections keep their types, whatever type the model is asked for in."""
        if any(isinstance(op, DecodeSections) for op in getattr(converter, "operations", ())):
            return None
        found: torch.dtype | None = super().get_new_dtype(converter, param, dtype)
        return found

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        found, self._homes = self._homes.direct, Homes()
        for file in {id(tensor.file): tensor.file for tensor in found.values()}.values():
            targets = {tensor.name: target for target, tensor in found.items() if tensor.file is file}
            for name, encoded in file.load(targets, jobs=torch.get_num_threads()).items():
                _weight(model, targets[name]).fill(encoded)
        kept = [self._originals.get(id(c), c) for c in getattr(model, "_weight_conversions", ())]
        model._weight_conversions = kept
        if not found:
            self.remove_quantization_config(model)
        return model

    def get_state_dict_and_metadata(self, model: Any, *args: Any) -> tuple[None, dict[str, str]]:
        """Let the config, which is saved after this is asked for, name the tensors that are encoded now."""
        weights = {name: module for name, module in model.named_modules() if isinstance(module, XorWeight)}
        same = type(model).__name__ in (getattr(model.config, "architectures", None) or [])
        names = [module.name or name if same else name for name, module in weights.items()]
        self.quantization_config.n_encoded = len(names)
        self.quantization_config.encoded = abbreviated(names, [name for name, _ in model.named_parameters()])
        return None, {}

    def _dequantize(self, model: Any, dtype: Any = None) -> Any:
        return decode_module(model, getattr(torch, dtype) if isinstance(dtype, str) else dtype)

    def is_serializable(self, *args: Any, **kwargs: Any) -> bool:
        """Sections are saved as they are."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Whether transformers' trainer may train the model: not its encoded weights."""
        return False

    @property
    def is_compileable(self) -> bool:
        """Whether ``torch.compile`` may take the model."""
        return True


def attach(model: Any) -> None:
    """Let transformers know that a model's weights are encoded, where it does not.

    Raises:
        ParameterError: none is.
    """
    weights = [module for module in model.modules() if isinstance(module, XorWeight)]
    if not weights:
        raise ParameterError(f"{type(model).__name__} has no encoded weight")
    if getattr(model, "hf_quantizer", None) is None:
        kinds = {weight.record["kind"] for weight in weights}
        mode = next(kind for kind in ("trellis", "bcq", "lossless") if kind in kinds)
        version = version_for(weight.record for weight in weights)
        config = XorpackConfig(format_version=version, mode=mode)
        model.hf_quantizer = XorpackQuantizer(config)
        model.is_quantized, model.quantization_method = True, METHOD
        model.config.quantization_config = config


def _kept_in(plan: Mapping[str, torch.dtype], name: str, dtype: torch.dtype) -> torch.dtype:
    """The type of a parameter: some models keep some of them in float32, whatever is asked for."""
    return next((kept for glob, kept in plan.items() if re.search(glob.replace("*", ".*"), name)), dtype)


def _cast_input(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What models that keep a layer in float32 do themselves, if its weight is a plain tensor."""
    return args[0].to(module.weight.dtype), *args[1:]


def _is_cuda(device_map: Any) -> bool:
    """Whether a place that ``from_pretrained`` is given is, or may be, a GPU of CUDA."""
    if isinstance(device_map, Mapping):
        return any(map(_is_cuda, device_map.values()))
    if isinstance(device_map, int) or device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        return torch.cuda.is_available()
    return device_map not in (None, "disk") and torch.device(device_map).type == "cuda"


def _place(model: Any, target: str) -> tuple[Any, str]:
    parent, _, leaf = target.rpartition(".")
    return model.get_submodule(parent), leaf


def _weight(model: Any, target: str) -> XorWeight:
    module, leaf = _place(model, target)
    found: XorWeight = module._modules[leaf]
    return found


def _empty(tensor: Encoded, dtype: torch.dtype) -> XorWeight:
    """The module of an encoded tensor whose sections are still to be read, with one buffer as large as all of them.

    It is not persistent: transformers moves such a buffer to its device, and looks for nothing of it in the files, for
    that takes it half a millisecond for each section.
    """
    n_bytes = sum(stored.n_bytes for stored in tensor.sections().values())
    room = torch.empty(n_bytes, dtype=torch.uint8, device="meta")
    weight = XorWeight(tensor.record, {"code": room}, name=tensor.name, dtype=dtype)
    weight._non_persistent_buffers_set.update(weight._buffers)
    return weight


def _tie(model: Any, homes: Homes) -> None:
    """Let parameters that are tied to encoded ones compute with these, and take them out of transformers' lists."""
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    for alias, source in tied.items():
        for here, there in ((alias, source), (source, alias)):
            module, leaf = _place(model, here)
            if here not in homes.direct and there in homes.direct and leaf in module._parameters:
                tie(module, leaf, _weight(model, there))
        if alias in homes.direct or source in homes.direct:
            for module in model.modules():
                keys = getattr(module, "all_tied_weights_keys", None) or {}
                for key in [key for key in keys if alias == key or alias.endswith(f".{key}")]:
                    del keys[key]
