"""What vLLM asks about a model whose directory is encoded.

vLLM imports this in every process, whatever model it serves, so nothing is imported here that takes time. Nothing is
read before a model is built, either: vLLM for CPUs (0.32) replaces kernels before that, and stumbles over numba if it
is loaded by then.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from vllm.model_executor.layers.fused_moe import RoutedExperts
from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead, VocabParallelEmbedding
from vllm.model_executor.model_loader.weight_utils import download_weights_from_hf

from xorpack import checks
from xorpack.errors import ParameterError

if TYPE_CHECKING:
    from xorpack.vllm.names import Names

METHOD = "xorpack"
"""That of :mod:`xorpack.files.model`."""


@register_quantization_config(METHOD)
class XorpackQuantizationConfig(QuantizationConfig):  # type: ignore[misc]
    """Which layers are encoded.

    Args:
        n_encoded: encoded tensors of the directory; None where an early version of xorpack did not count them.
    """

    def __init__(self, n_encoded: int | None = None) -> None:
        super().__init__()
        self.n_encoded = n_encoded
        self.directory: Path | None = None
        self._names: Names | None = None

    def get_name(self) -> str:
        """What ``quant_method`` of config.json says."""
        return METHOD

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """Types that models compute in."""
        return [torch.float32, torch.float16, torch.bfloat16]

    @classmethod
    def get_min_capability(cls) -> int:
        """Of a GPU, as xorpack's own decoder for these needs."""
        from xorpack.cuda.device import MIN_COMPUTE_CAPABILITY

        major, minor = MIN_COMPUTE_CAPABILITY
        return 10 * major + minor

    @staticmethod
    def get_config_filenames() -> list[str]:
        """Files beside config.json that would have to be read: none."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> XorpackQuantizationConfig:
        """Of the ``quantization_config`` of config.json.

        Raises:
            ParameterError: another tool quantized the model before it was encoded.
        """
        checks.quantized_by_xorpack(config)
        return cls(config.get("n_encoded"))

    def maybe_update_config(
        self, model_name: str, hf_config: Any = None, revision: str | None = None
    ) -> None:
        """Note where a model's files are; those of the hub are downloaded.

        Raises:
            ParameterError: vLLM transposes the model's matrices while it loads them.
        """
        if getattr(hf_config, "model_type", None) == "gpt2":
            raise ParameterError(
                f"{model_name}: vLLM transposes matrices of gpt2 while it loads them, which it cannot do with encoded "
                f"ones; decode the directory with `xorpack decode`"
            )
        self.directory = Path(model_name)
        if not self.directory.is_dir():
            found = download_weights_from_hf(
                model_name, None, ["*.safetensors", "*.safetensors.index.json"], revision
            )
            self.directory = Path(found)

    @property
    def names(self) -> Names:
        """The tensors of the directory."""
        from xorpack.vllm.names import read

        if self._names is None:
            assert self.directory is not None, "vLLM calls maybe_update_config first"
            self._names = read(self.directory, self.n_encoded)
        return self._names

    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        """Rename tensors as a model does that vLLM builds."""
        self.names.rename(lambda name: next(iter(hf_to_vllm_mapper.apply_list([name])), None))

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """What is to run a layer; None is vLLM itself.

        Raises:
            FormatError: names of the files do not tell which tensors the layer is made of.
            ParameterError: the layer's experts are encoded.
        """
        from xorpack.vllm import methods

        if isinstance(layer, VocabParallelEmbedding):
            head = isinstance(layer, ParallelLMHead)
            part = self.names.of_vocabulary(prefix, (layer.org_vocab_size, layer.embedding_dim), head=head)
            if part is not None:
                return methods.EncodedVocabularyMethod(prefix, part)
            return methods.CarriedHeadMethod() if head else None
        if isinstance(layer, LinearBase):
            parts = self.names.of_layer(prefix, self.packed_modules_mapping)
            if parts is not None:
                return methods.EncodedLinearMethod(prefix, parts)
            lost = prefix in self.names.lost
            return methods.LostLinearMethod(self.names) if lost else UnquantizedLinearMethod()
        if isinstance(layer, RoutedExperts) and (inside := self.names.inside(prefix)):
            raise ParameterError(
                f"layer {prefix!r}: its experts are encoded, {inside[0]!r} for one, and vLLM's kernels take them only "
                f"as they are; encode with --exclude 're:.*experts', or decode with `xorpack decode`"
            )
        return None
