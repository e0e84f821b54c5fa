"""Whole checkpoints, files and directories: encode, decode, open, verify."""

from xorpack.checkpoint.decode import decode_checkpoint
from xorpack.checkpoint.encode import encode_checkpoint
from xorpack.checkpoint.opened import Checkpoint, open_checkpoint
from xorpack.checkpoint.prune import PruneOptions, PruneReport, PruneSettings, prune_checkpoint
from xorpack.checkpoint.settings import EncodeReport, Settings, SettingsOptions
from xorpack.checkpoint.verify import VerifyReport, verify_checkpoint

__all__ = [
    "Checkpoint",
    "EncodeReport",
    "PruneOptions",
    "PruneReport",
    "PruneSettings",
    "Settings",
    "SettingsOptions",
    "VerifyReport",
    "decode_checkpoint",
    "encode_checkpoint",
    "open_checkpoint",
    "prune_checkpoint",
    "verify_checkpoint",
]
