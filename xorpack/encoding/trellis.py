"""A trellis tensor to an encoded one: its code is there already, so only the mask and the outliers are left."""

from __future__ import annotations

import numpy as np

from xorpack.code.corrections import Corrections, pack
from xorpack.code.planes import TrellisPlanes
from xorpack.code.words import tail_mask
from xorpack.elements import Trellis
from xorpack.encoded import EncodedTensor, blocks_sha256
from xorpack.encoding.masks.choice import choose, encode_mask
from xorpack.encoding.masks.proposal import WantedMask
from xorpack.encoding.options import EncodingOptions
from xorpack.errors import ParameterError
from xorpack.tensors import TrellisTensor, as_matrix


def encode_trellis(tensor: TrellisTensor, options: EncodingOptions) -> EncodedTensor:
    """Encode; of the options only those of the mask apply.

    Raises:
        ParameterError: an option of how planes are coded was given.
    """
    given = (options.network, options.rate, options.lanes)
    if any(value is not None for value in given) or options.payload != "auto":
        raise ParameterError(
            "network, rate, lanes and payload say how planes are coded, and a trellis tensor has its code"
        )
    if options.device != "cpu":
        raise ParameterError(f"device {options.device} finds the XOR code, and a trellis tensor has its code")
    rows, cols = as_matrix(tensor.shape)
    kept = np.tile(tail_mask(cols), (rows, 1)) if tensor.mask is None else tensor.mask
    planes = TrellisPlanes(network=tensor.network, shape=(rows, cols), n_kept=tensor.n_kept, code=tensor.code)
    wanted = WantedMask(words=kept, cols=cols, n_kept=tensor.n_kept, factors=options.factors)
    proposal = choose(wanted, options.mask_codec, options.prefer)
    mask = encode_mask(proposal, planes.host, np.zeros(0, np.int64), options.mask_codec, options.jobs)
    listed = Corrections(tensor.positions, tensor.values.view(np.uint16).astype(np.uint64))
    return EncodedTensor(
        shape=tensor.shape,
        dtype=tensor.dtype,
        planes=planes,
        mask=mask,
        elements=Trellis(
            a=tensor.a,
            scales=tensor.scales,
            group_size=tensor.group_size,
            gains=tensor.gains,
            n_outliers=len(listed),
            outliers=pack(listed, rows * cols, 16),
        ),
        content_sha256=blocks_sha256(tensor.blocks()),
    )
