"""Whole checkpoints, files and directories: encode, decode, open, verify."""

from xorpack.checkpoint.decode import decode_checkpoint
from xorpack.checkpoint.encode import encode_checkpoint
from xorpack.checkpoint.opened import Checkpoint, open_checkpoint
from xorpack.checkpoint.settings import EncodeReport, Settings
from xorpack.checkpoint.verify import VerifyReport, verify_checkpoint

__all__ = [
    "Checkpoint",
    "EncodeReport",
    "Settings",
    "VerifyReport",
    "decode_checkpoint",
    "encode_checkpoint",
    "open_checkpoint",
    "verify_checkpoint",
]
