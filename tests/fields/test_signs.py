"""Binary codes under a prefix code: what is encoded comes back, in no more bytes than it may take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import bcq, fitted, pruned, same

import xorpack
from xorpack import XorNetwork
from xorpack.analysis.accounting import Account
from xorpack.code import words
from xorpack.decoders import cpu, reference
from xorpack.encoding.fields.signs import choose_signs, split_signs
from xorpack.encoding.rings.gather import PlaneSource
from xorpack.errors import FormatError, ParameterError
from xorpack.fields.codewords import Codewords
from xorpack.fields.codewords_kernels import recode_kernel
from xorpack.fields.field import FieldCode
from xorpack.fields.signs import SignField

CODE = FieldCode(low=0, width=3, n_raw=1, counts=(1, 0, 3, 2))
SYMBOLS = np.array([5, 0, 2, 7, 1, 6], np.uint32)


def check(tensor, encoded):
    """All decoders give back ``tensor``, whole and in parts."""
    assert same(xorpack.decode(encoded), tensor)
    assert same(xorpack.decode(encoded, jobs=3), tensor)
    for decoder in (reference, cpu):
        mask, planes = decoder.decode_planes(encoded)
        assert (mask == tensor.mask).all()
        assert (planes == tensor.planes).all()
        first, last = encoded.rows // 3, encoded.rows - encoded.rows // 4
        _, part = decoder.decode_planes(encoded, first, last)
        assert (part == tensor.planes[:, first:last]).all()
    assert encoded.content_sha256 == xorpack.encode(tensor).content_sha256


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_round_trip(sparsity, bits):
    for shape in ((33, 100), (2, 2080), (8, 3, 3, 3), (257, 384)):
        tensor = fitted(shape, sparsity, bits, dtype="F16")
        encoded = xorpack.encode(tensor, field="always")
        assert isinstance(encoded.field, SignField)
        check(tensor, encoded)


@pytest.mark.parametrize(
    "options",
    [
        {"network": XorNetwork.quasi_cyclic(window=5, n_rows=7), "lanes": 2},
        {"mask_codec": "cascade"},
        {"mask_codec": "block", "lanes": 32},
        {"rate": 0.3, "mask_codec": "bitmap"},
    ],
    ids=repr,
)
def test_options(options):
    tensor = fitted((150, 700), 0.5, 3)
    encoded = xorpack.encode(tensor, field="always", **options)
    assert encoded.field.code.n_depths > 0
    assert encoded.field.network is encoded.network
    assert (encoded.n_corrections > 100) == ("rate" in options)
    check(tensor, encoded)
    again = xorpack.encode(tensor, field="always", jobs=3, **options)
    for name, section in encoded.sections().items():
        assert (again.sections()[name] == section).all()


def test_corrections_of_depths(monkeypatch):
    monkeypatch.setattr("xorpack.encoding.rings.tensor.choose_m_lane", lambda *_: (60, {}))
    tensor = fitted((150, 700), 0.5, 4)
    encoded = xorpack.encode(tensor, field="always", network=XorNetwork.turned(), lanes=8)
    assert encoded.field.n_corrections > 100
    assert np.bitwise_or.reduce(encoded.field.load_corrections().values) > 1
    check(tensor, encoded)


def test_nothing_is_kept_or_all_weights_are_alike():
    for tensor in (bcq((20, 70), 1.1, 3), replace(t := bcq((20, 70), 0.5, 2), planes=np.stack([t.mask] * 2))):
        encoded = xorpack.encode(tensor, field="always")
        assert encoded.field is None
        check(tensor, encoded)


def test_a_symbol_that_is_missing():
    tensor = fitted((150, 200), 0.4, 3)
    never = tensor.planes[0] & ~tensor.planes[1]
    tensor = replace(tensor, planes=np.stack([tensor.planes[0] & ~never, *tensor.planes[1:]]))
    encoded = xorpack.encode(tensor, field="always")
    assert encoded.field.code.n_symbols == 6
    check(tensor, encoded)


def test_a_field_is_taken_where_it_is_asked_for_and_saves_bytes():
    tensor = fitted((256, 1024), 0.5, 3)
    plain, auto = xorpack.encode(tensor), xorpack.encode(tensor, field="auto")
    assert plain.field is None
    assert xorpack.encode(tensor, field="none").field is None
    assert sum(auto.section_bytes().values()) < 0.95 * sum(plain.section_bytes().values())
    random = bcq((256, 1024), 0.5, 3)
    assert xorpack.encode(random, field="auto").field is None
    assert xorpack.encode(random, field="always").field is not None
    assert xorpack.encode(tensor, field="auto", prefer="speed").field is None
    dense = XorNetwork.dense(n_in=2, n_out=3)
    assert xorpack.encode(fitted((40, 64), 0.5, 3), field="auto", network=dense).field is None


def test_sizes_are_near_the_entropy():
    """Within 2.5 % of the symbols' entropy; a Huffman code of single symbols takes 1 or 2 % of that."""
    normal = np.random.default_rng(3).standard_normal((1024, 1024), np.float32)
    for sparsity, bits, most in ((0.5, 3, 1.03), (0.9, 2, 1.055), (None, 4, 1.025)):
        tensor = xorpack.quantize(normal, bits=bits, sparsity=sparsity, group_size=0)
        encoded = xorpack.encode(tensor, field="auto")
        account = Account.of(encoded)
        assert 1 < account.payload_overhead < most
        assert account.payload_bytes == sum(
            encoded.section_bytes()[name] for name in ("code", "corrections", "field")
        )


@pytest.mark.parametrize(
    ("tensor", "options", "match"),
    [
        (fitted(), {"payload": "packed"}, "bits are packed"),
        (fitted(), {"prefer": "speed"}, "bits are packed"),
        (fitted(), {"network": XorNetwork.dense(n_in=2, n_out=3)}, "the network is dense"),
        (fitted(), {"network": XorNetwork.identity()}, "the network is identity"),
    ],
    ids=["packed", "speed", "dense", "identity"],
)
def test_what_has_no_field(tensor, options, match):
    with pytest.raises(ParameterError, match=match):
        xorpack.encode(tensor, field="always", **options)


def test_a_trellis_has_no_field():
    tensor = xorpack.quantize(pruned((64, 64), 0.0), method="trellis", rate=1)
    with pytest.raises(ParameterError, match="a trellis tensor has none"):
        xorpack.encode(tensor, field="always")


def test_a_field_belongs_to_its_tensor():
    encoded = xorpack.encode(fitted((150, 200)), field="always")
    other = xorpack.encode(fitted((151, 200)), field="always")
    packed = xorpack.encode(fitted((150, 200)), payload="packed")
    wrong = replace(encoded.elements, field=other.field)
    with pytest.raises(FormatError, match="not in the order of their code"):
        replace(encoded, elements=wrong)
    with pytest.raises(FormatError, match=r"not in the order of their code|not all constantly 0"):
        replace(packed, elements=encoded.elements)


def test_codewords_are_looked_up_in_a_tree():
    """All sequences of bits, as the table has them."""
    decoding = Codewords.decoding(CODE, SYMBOLS)
    assert len(decoding.program) < 20
    bits = np.arange(16)
    planes = np.stack([words.pack(bits[None] >> 3 - d & 1 == 1) for d in range(4)])
    mask = words.pack(bits[None] % 5 != 2)
    found = words.unpack(decoding.recode(planes, mask), 16)[:, 0]
    values = (found << np.arange(3)[:, None]).sum(axis=0)
    assert (values == np.where(bits % 5 != 2, CODE.table(SYMBOLS), 0)).all()


def test_heads_and_depths_of_symbols():
    encoding = Codewords.encoding(CODE, SYMBOLS)
    planes = np.stack([words.pack((SYMBOLS[None] >> 2 - d & 1) == 1) for d in range(3)])
    found = words.unpack(encoding.recode(planes, words.pack(np.ones((1, 6), np.bool_))), 6)[:, 0]
    codewords = ["0", "100", "101", "110", "1110", "1111"]
    assert ["".join("01"[int(b)] for b in found[:1, i]) for i in range(6)] == [each[0] for each in codewords]
    for i, word in enumerate(codewords):
        tail = word[1:]
        assert [int(b) for b in found[1:4, i]] == [int(b) for b in tail.ljust(3, "0")]
        assert [int(b) for b in found[4:, i]] == [int(e < len(tail)) for e in range(3)]


@pytest.mark.parametrize("n", [1, 16, 700])
def test_the_kernel_is_what_it_is_in_python(n):
    rng = np.random.default_rng(n)
    planes = rng.integers(0, 1 << 32, 4 * n, np.uint32)
    mask = rng.integers(0, 1 << 32, n, np.uint32)
    missing = np.where(SYMBOLS == 7, 6, SYMBOLS) & ~np.uint32(2)  # no word of plane 1 is written by a leaf
    for symbols in (SYMBOLS, missing):
        program = Codewords.decoding(CODE, symbols).program
        outs = []
        for kernel in (recode_kernel, recode_kernel.py_func):
            out = np.full(3 * n, 7, np.uint32)
            kernel(program, 4, planes, mask, n // 3, n, np.empty(4 * 64, np.uint32), out)
            assert (out.reshape(3, n)[:, : n // 3] == 7).all()
            outs.append(out)
        assert (outs[0] == outs[1]).all()


def test_split_and_together():
    tensor = fitted((40, 300), 0.3, 3)
    source = PlaneSource(tensor.mask, tensor.planes)
    plan = choose_signs(source, always=True)
    split = split_signs(plan, source, 1)
    code = plan.code
    assert [words.popcount(care) for care in split.cares] == list(plan.cares)
    assert not (split.depths & ~split.cares).any()
    bits = np.concatenate([split.planes[: code.n_raw][::-1], split.depths])
    back = Codewords.decoding(code, plan.symbols).recode(bits, tensor.mask, jobs=2)
    assert (back == tensor.planes).all()
