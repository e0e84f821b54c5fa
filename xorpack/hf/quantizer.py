"""What transformers calls while it loads, saves and decodes a model whose directory is encoded."""

from __future__ import annotations

from typing import Any

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.quantizers import HfQuantizer, register_quantizer

from xorpack.errors import FormatError, ParameterError
from xorpack.files.model import GUARD_KEY, METHOD
from xorpack.hf.experts import DecodeSections, with_sections
from xorpack.hf.homes import Encoded, Homes, check_homes, find_homes, read_files
from xorpack.torch import XorWeight, decode_module, put, tie
from xorpack.torch.arrays import TORCH


@register_quantizer(METHOD)
class XorpackQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts encoded weights into a model before its files are loaded, so that their sections have somewhere to go."""

    requires_calibration = True  # transformers' word for: cannot quantize on the fly

    def update_attn_implementation(self, config: Any) -> Any:
        """Take the guard out of the model's config, that stops transformers without this plug-in."""
        if GUARD_KEY in config.__dict__:
            delattr(config, GUARD_KEY)
        return config

    def preprocess_model(self, model: Any, *args: Any, checkpoint_files: Any = None, **kwargs: Any) -> Any:
        """Keep the files' names, which some versions do not pass on."""
        if not checkpoint_files:
            raise ParameterError(
                "an encoded model is loaded from its files; a state_dict says nothing of its encoding"
            )
        self._files = list(checkpoint_files)
        return super().preprocess_model(model, *args, checkpoint_files=checkpoint_files, **kwargs)

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        tensors = read_files(self._files)
        if not any(tensors.values()):
            raise FormatError(
                f"{model.config.name_or_path}: config.json says that xorpack encoded it, and no file holds an encoded "
                f"tensor"
            )
        homes = find_homes(model, tensors, get_model_conversion_mapping(model))
        check_homes(model, homes, self.quantization_config.n_encoded)
        self._homes = homes
        parameters = dict(model.named_parameters(remove_duplicate=False))
        for target, tensor in homes.direct.items():
            module, leaf = _place(model, target)
            put(module, leaf, _empty(tensor, parameters[target].dtype))
        _tie(model, homes)
        return model

    def update_weight_conversions(self, weight_conversions: list[Any], model: Any) -> list[Any]:
        """Let converters that merge tensors, experts' for one, decode those that are encoded first."""
        changed = [with_sections(converter, self._homes) for converter in weight_conversions]
        self._originals = {id(new): old for new, old in zip(changed, weight_conversions, strict=True)}
        return changed

    def get_new_dtype(self, converter: Any, param: Any, dtype: torch.dtype | None) -> torch.dtype | None:
        """Sections keep their types, whatever type the model is asked for in."""
        if any(isinstance(op, DecodeSections) for op in getattr(converter, "operations", ())):
            return None
        if any(".xor_" in pattern for pattern in converter.source_patterns):
            return None
        found: torch.dtype | None = super().get_new_dtype(converter, param, dtype)
        return found

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> Any:
        found = [module for module in model.modules() if isinstance(module, XorWeight)]
        for weight in found:
            if weight.is_meta:
                raise FormatError(f"weight {weight.name!r}: its sections were not loaded")
            if "xor_record" not in weight._buffers:
                weight.seal()
            weight.check()
        kept = [self._originals.get(id(c), c) for c in getattr(model, "_weight_conversions", ())]
        model._weight_conversions = kept
        self.quantization_config.n_encoded = len(found)
        if not found:
            self.remove_quantization_config(model)
        return model

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


def _place(model: Any, target: str) -> tuple[Any, str]:
    parent, _, leaf = target.rpartition(".")
    return model.get_submodule(parent), leaf


def _empty(tensor: Encoded, dtype: torch.dtype) -> XorWeight:
    """The module of an encoded tensor whose sections are still to be loaded."""
    sections = {
        section: torch.empty(shape, dtype=TORCH[stored], device="meta")
        for section, (stored, shape) in tensor.sections().items()
    }
    weight = XorWeight(tensor.record, sections, name=tensor.name, dtype=dtype)
    if f"{tensor.name}.xor_record" not in tensor.file.stored:  # up to version 2 it stands elsewhere
        del weight.xor_record
    return weight


def _tie(model: Any, homes: Homes) -> None:
    """Let parameters that are tied to encoded ones compute with these, and take them out of transformers' lists."""
    tied = dict(getattr(model, "all_tied_weights_keys", None) or {})
    for alias, source in tied.items():
        for here, there in ((alias, source), (source, alias)):
            module, leaf = _place(model, here)
            if here not in homes.direct and there in homes.direct and leaf in module._parameters:
                owner, name = _place(model, there)
                tie(module, leaf, owner._modules[name])
        if alias in homes.direct or source in homes.direct:
            for module in model.modules():
                keys = getattr(module, "all_tied_weights_keys", None) or {}
                for key in [key for key in keys if alias == key or alias.endswith(f".{key}")]:
                    del keys[key]
