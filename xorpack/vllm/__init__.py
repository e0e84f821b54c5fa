"""Encoded directories in vLLM: a plug-in that vLLM finds by itself wherever both are installed.

``vllm serve encoded/`` is all there is to say: ``quant_method`` of ``config.json`` asks for it. Weights stay encoded in
memory.
memory.
"""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)


def register() -> None:
    """Make xorpack known to vLLM, as its entry point, in every process; a second call changes nothing.

    A vLLM that the plug-in does not fit gets a warning, so that it still serves every other model.
    """
    try:
        import xorpack.vllm.config  # noqa: F401
    except ImportError as error:
        _log.warning("xorpack: encoded models cannot be served, for this vLLM does not fit: %s", error)
