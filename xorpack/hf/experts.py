"""Tensors that transformers merges while it loads them, encoded: they are decoded first.

Transformers 5 keeps the experts of a layer in one parameter, and files each of them by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers.core_model_loading import ConversionOps, WeightConverter

from xorpack.decoders import cpu
from xorpack.encoded import SECTIONS
from xorpack.files.rebuild import from_sections
from xorpack.files.record import RECORD
from xorpack.hf.homes import Encoded, Homes
from xorpack.torch.arrays import to_numpy, to_torch

_SECTIONS = (*SECTIONS, RECORD)


def with_sections(converter: Any, homes: Homes) -> Any:
    """A converter that collects sections of encoded tensors, too, where there are some for it; else itself."""
    if not isinstance(converter, WeightConverter):
        return converter
    mine = {
        key: found
        for key, found in homes.merged.items()
        if key[1] in converter.source_patterns and any(found)
    }
    if not mine:
        return converter
    sources = list(converter._original_source_patterns)
    sections = [f"{source}.xor_{section}" for source in sources for section in _SECTIONS]
    targets = list(converter._original_target_patterns)
    decode = DecodeSections(list(converter.source_patterns), homes)
    return converter.copy([*sources, *sections], targets, operations=[decode, *converter.operations])


class DecodeSections(ConversionOps):  # type: ignore[misc]
    """Makes tensors of the sections that stand for them.

    Args:
        patterns: of the tensors' names.
        homes: what these tensors are.
    """

    def __init__(self, patterns: list[str], homes: Homes) -> None:
        self.patterns, self.homes = patterns, homes

    def __deepcopy__(self, memo: Any) -> DecodeSections:
        return self  # a converter is copied for each parameter, and the files' headers are the same

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, list[torch.Tensor]],
        source_patterns: list[str],
        target_patterns: list[str],
        *,
        full_layer_name: str,
        model: Any,
        **kwargs: Any,
    ) -> dict[str, list[torch.Tensor]]:
        """Decoded tensors by the pattern of their names, in the order of their names."""
        dtype = model.get_parameter(full_layer_name).dtype
        found: dict[str, list[torch.Tensor]] = {}
        left = {pattern: iter(tensors) for pattern, tensors in input_dict.items()}
        for i, pattern in enumerate(self.patterns):
            first = len(self.patterns) + i * len(_SECTIONS)
            sections = dict(zip(_SECTIONS, source_patterns[first : first + len(_SECTIONS)], strict=True))
            tensors = self.homes.merged.get((full_layer_name, pattern), [])
            found[pattern] = [
                next(left[pattern])
                if tensor is None
                else _decoded(tensor, {s: left.get(p) for s, p in sections.items()})
                for tensor in tensors
            ]
            found[pattern] = [tensor.to(dtype) for tensor in found[pattern]]
        return found


def _decoded(tensor: Encoded, sections: Mapping[str, Any]) -> torch.Tensor:
    """The next tensor of iterators over sections; the file's header says which of them it has."""
    arrays = {section: to_numpy(next(sections[section])) for section in tensor.sections()}
    if (record := sections[RECORD]) is not None:
        next(record)
    encoded = from_sections(tensor.record, arrays, name=tensor.name)
    return to_torch(cpu.decode_dense(encoded, jobs=torch.get_num_threads()))
