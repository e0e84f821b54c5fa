"""What runs the layers of vLLM whose weights are encoded, or may be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from vllm.model_executor.layers.linear import (
    LinearMethodBase,
    UnquantizedLinearMethod,
    register_weight_loader_v2_supported_method,
)
from vllm.model_executor.layers.vocab_parallel_embedding import UnquantizedEmbeddingMethod

from xorpack.errors import MismatchError, ParameterError
from xorpack.files.cuts import AXES, Cut
from xorpack.vllm.names import NamedTensor, Names
from xorpack.vllm.weights import Stack


class EncodedLinearMethod(LinearMethodBase):  # type: ignore[misc]
    """Runs a linear layer of encoded tensors, or of encoded and carried ones.

    Args:
        prefix: the layer's name.
        parts: what its weight is made of.
    """

    def __init__(self, prefix: str, parts: list[NamedTensor]) -> None:
        self.prefix, self.parts = prefix, parts

    def create_weights(
        self,
        layer: Any,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **attributes: Any,
    ) -> None:
        """Put a weight in its place that is still to be loaded.

        Raises:
            ParameterError: tensors are whole where vLLM asks for a piece, or cut otherwise than it asks.
            MismatchError: the model is another than the files are of.
        """
        wanted = sum(output_partition_sizes), input_size_per_partition
        n, rank = getattr(layer, "tp_size", 1), getattr(layer, "tp_rank", 0)
        axis = None if wanted == (output_size, input_size) else int(wanted[0] == output_size)
        parts = self._of_device(n, axis)
        self._check(wanted, parts)
        layer.weight = Stack(self.prefix, parts, params_dtype, None if axis is None else Cut(axis, rank, n))

    def _of_device(self, n: int, axis: int | None) -> list[NamedTensor]:
        """Parts of the layer, or pieces of them, as large as those of one of ``n`` devices if ``axis`` is cut."""
        found = []
        for part in self.parts:
            if part.pieces and (axis is None or (len(part.pieces), part.axis) != (n, axis)):
                raise ParameterError(
                    f"tensor {part.name!r} was cut into {len(part.pieces)} pieces of its {AXES[part.axis]}, and layer "
                    f"{self.prefix!r} needs {'it whole' if axis is None else f'{n} of its {AXES[axis]}'}: serve with "
                    f"--tensor-parallel-size {len(part.pieces)}"
                )
            if part.record and not part.pieces and axis is not None:
                raise ParameterError(
                    f"layer {self.prefix!r} is cut by tensor parallelism, and encoded tensors are not: encode with "
                    f"--tp {n}, or serve with --tensor-parallel-size 1"
                )
            if axis is None:
                found.append(part)
            else:
                shape = list(part.shape)
                shape[axis] //= n
                found.append(replace(part, shape=tuple(shape)))
        return found

    def _check(self, wanted: tuple[int, int], parts: list[NamedTensor]) -> None:
        rows, cols = sum(part.shape[0] for part in parts), {part.shape[1:] for part in parts}
        if rows != wanted[0] or cols != {wanted[1:]}:
            names = ", ".join(f"{part.name!r} {part.shape}" for part in parts)
            raise MismatchError(f"layer {self.prefix!r} is {wanted}, and the files have {names}")

    def process_weights_after_loading(self, layer: Any) -> None:
        """Check that all of the weight was loaded, and that it is what was encoded."""
        layer.weight.seal()

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """``x W^T + bias``."""
        found: torch.Tensor = layer.weight.product(x, bias)
        return found


class EncodedVocabularyMethod(EncodedLinearMethod):
    """Looks up rows of an encoded embedding, multiplies by an encoded head; either may be both."""

    def __init__(self, prefix: str, part: NamedTensor) -> None:
        super().__init__(prefix, [part])

    def create_weights(
        self,
        layer: Any,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **attributes: Any,
    ) -> None:
        """As of a linear layer; of the rows that vLLM adds to a vocabulary there are none, which it does not read."""
        parts = self._of_device(layer.tp_size, 0 if layer.tp_size > 1 else None)
        self._check((layer.org_vocab_size, input_size), parts)
        layer.weight = Stack(self.prefix, parts, params_dtype)

    def apply(self, layer: Any, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """``x W^T + bias``."""
        return super().apply(layer, x, None if bias is None else bias[: layer.weight.shape[0]])

    def embedding(self, layer: Any, input_: torch.Tensor) -> torch.Tensor:
        """Rows of the table."""
        found: torch.Tensor = layer.weight.lookup(input_)
        return found

    def tie_weights(self, layer: Any, embed_tokens: Any) -> Any:
        """The head as it is: files have one of its own."""
        return layer


class CarriedHeadMethod(UnquantizedEmbeddingMethod):  # type: ignore[misc]
    """Runs a head that is carried, until it is tied to an embedding that is encoded."""

    def tie_weights(self, layer: Any, embed_tokens: Any) -> Any:
        """Let the head compute with the embedding's weight, by the embedding's method."""
        if not isinstance(embed_tokens.weight, Stack):
            return super().tie_weights(layer, embed_tokens)
        del layer.weight
        layer.weight, layer.quant_method = embed_tokens.weight, embed_tokens.quant_method
        return layer


@register_weight_loader_v2_supported_method
class LostLinearMethod(UnquantizedLinearMethod):  # type: ignore[misc]
    """Runs a linear layer that no tensor was found for by its name: vLLM may load it all the same."""

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.names = names

    def process_weights_after_loading(self, layer: Any) -> None:
        """Check that it was not an encoded tensor that it should have got."""
        self.names.check_homes()
        super().process_weights_after_loading(layer)
