"""Code, corrections and mask by a plan: the third act of encoding."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xorpack.code.corrections import Corrections, pack, packed_sizes
from xorpack.code.network import XorNetwork
from xorpack.code.packed import PackedPlanes
from xorpack.code.planes import CodedPlanes, StoredPlanes
from xorpack.cuda.choice import find_device
from xorpack.encoding.constants import merge
from xorpack.encoding.masks.bitmap import BitmapProposal
from xorpack.encoding.masks.choice import encode_mask, split_riders
from xorpack.encoding.options import EncodingOptions
from xorpack.encoding.plan import TensorPlan, raw_bytes
from xorpack.encoding.rings.elimination_gpu import DeviceRings
from xorpack.encoding.rings.gather import FilteredSource
from xorpack.encoding.rings.tensor import encode_planes
from xorpack.masks import Mask


class Coded(NamedTuple):
    """The parts of an encoded tensor that do not depend on what its planes mean."""

    planes: StoredPlanes
    mask: Mask


def encode_plan(plan: TensorPlan, options: EncodingOptions) -> Coded:
    """Carry out ``plan``; raw planes take its network's place where they are smaller after all."""
    if plan.packs:
        return _pack_plan(plan, options)
    source, network, layout, proposal = plan.source, plan.network, plan.layout, plan.mask
    n_coded, n_weights = source.n_planes, layout.rows * layout.cols
    riders = proposal.riders()
    whole = source if riders is None else FilteredSource(source, riders)
    device, on_device = find_device(options.device), None
    if device is not None and plan.n_kept and whole.n_planes and network.family != "identity":
        on_device = DeviceRings(device, network, whole, layout)
    code, found = encode_planes(
        network, whole, layout, plan.n_kept, options.encoder, options.rate, options.jobs, on_device
    )
    own, missing = split_riders(found, n_coded)
    n_bytes = code[:n_coded].nbytes + sum(packed_sizes(len(own), n_weights, n_coded))
    if plan.raw_layout is not None and n_bytes >= raw_bytes(plan.raw_layout, n_coded) > 0:
        network, layout = XorNetwork.identity(), plan.raw_layout
        code, own = encode_planes(network, source, layout, plan.n_kept, options.encoder, None, options.jobs)
        if riders is not None:
            proposal = BitmapProposal.of(proposal.wanted)
    ridden = CodedPlanes(network=network, layout=layout, code=code[n_coded:])
    mask = encode_mask(proposal, ridden, missing, options.mask_codec, options.jobs)
    coded = CodedPlanes(network=network, layout=layout, code=np.ascontiguousarray(code[:n_coded]))
    return Coded(_stored(plan, coded, merge(own, source.coded, plan.exceptions)), mask)


def _pack_plan(plan: TensorPlan, options: EncodingOptions) -> Coded:
    source, wanted = plan.source, plan.mask.wanted
    packed = PackedPlanes.room(wanted.words, wanted.cols, source.n_planes)
    begin = 0
    for words, planes in source.blocks():
        begin = packed.put(words, planes, begin)
    nothing, none = CodedPlanes.nothing(*packed.shape), np.zeros(0, np.int64)
    mask = encode_mask(plan.mask, nothing, none, options.mask_codec, options.jobs)
    return Coded(_stored(plan, packed, plan.exceptions), mask)


def _stored(plan: TensorPlan, coded: CodedPlanes | PackedPlanes, corrections: Corrections) -> StoredPlanes:
    n_planes = plan.source.n_planes + sum(plan.constants).bit_count()
    rows, cols = coded.shape
    return StoredPlanes(
        bits=n_planes,
        n_kept=plan.n_kept,
        coded=coded,
        constants=plan.constants,
        n_corrections=len(corrections),
        corrections=pack(corrections, rows * cols, n_planes),
    )
