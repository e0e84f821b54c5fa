"""Digests of planes: what they are of, what they find, where they may stand; and those of weights, as before."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from crafting import NAME, PLAIN, matrix, record, refused, resign, write, write_trellis
from samples import bcq, with_digest_of_weights

import xorpack
from xorpack import BCQTensor, EncodedTensor, XorNetwork
from xorpack.analysis.row_errors import Rows
from xorpack.decoders.content import content_sha256, decode_digested
from xorpack.encoded import planes_sha256
from xorpack.errors import CorruptError
from xorpack.files import container
from xorpack.files.safetensors_file import StoredTensor

HOW: list[dict[str, Any]] = [
    {},
    {"mask_codec": "bitmap", "rate": 0.2, "lanes": 2},
    {"mask_codec": "block", "network": XorNetwork.dense(n_in=2, n_out=5)},
    {"mask_codec": "cascade"},
    {"mask_codec": "huffman", "payload": "packed"},
]


def write_bcq(path: Path) -> Path:
    """A file of version 3: a quantized tensor with corrections and a lossless one."""
    quantized = xorpack.quantize(matrix(), bits=2)
    network = XorNetwork.quasi_cyclic(window=4, n_rows=5)
    encoded = {
        NAME: xorpack.encode(quantized, network=network, rate=0.15, lanes=2, mask_codec="bitmap"),
        PLAIN: xorpack.encode(matrix()[:3, :7].astype(np.int8)),
    }
    container.write(path, encoded, {})
    return path


def digest_of(tensor: BCQTensor) -> str:
    return planes_sha256(tensor.mask, tensor.planes, tensor.scales)


def flipped(words: Any, at: tuple[int, ...], bit: int) -> Any:
    found = words.copy()
    found[at] ^= 1 << bit
    return found


@pytest.mark.parametrize("how", HOW, ids=str)
def test_what_it_is_of_whatever_the_code(how: dict[str, Any]) -> None:
    tensor = bcq((23, 70), 0.9, 2, group_size=30)
    mask, planes = tensor.mask.astype("<u4"), tensor.planes.astype("<u4")
    data = mask.tobytes() + planes[0].tobytes() + planes[1].tobytes() + tensor.scales.tobytes()
    encoded = xorpack.encode(tensor, **how)
    assert encoded.content_sha256 == f"planes:{hashlib.sha256(data).hexdigest()}"
    assert content_sha256(encoded) == encoded.content_sha256
    array, found = decode_digested(encoded)
    assert found == encoded.content_sha256
    assert array.tobytes() == tensor.dequantize().tobytes()


def test_every_bit_that_matters_changes_it() -> None:
    tensor = bcq((3, 40), 0.5, 2)
    seen = {digest_of(tensor)}
    for r, c in np.ndindex(3, 40):
        at, bit = (r, c // 32), c % 32
        seen.add(digest_of(replace(tensor, mask=flipped(tensor.mask, at, bit))))
        for k in range(2):
            found = digest_of(replace(tensor, planes=flipped(tensor.planes, (k, *at), bit)))
            kept = bool(tensor.mask[at] >> bit & 1)
            assert (found != digest_of(tensor)) == kept
            seen.add(found)
    scales = tensor.scales.view(np.uint16)
    for at in np.ndindex(*scales.shape):
        for bit in range(16):
            seen.add(digest_of(replace(tensor, scales=flipped(scales, at, bit).view(np.float16))))
    assert len(seen) == 1 + 3 * 40 + 2 * tensor.n_kept + 16 * scales.size


@pytest.mark.parametrize("payload", ["xor", "packed"])
def test_plane_bits_of_pruned_weights_are_no_content(payload: Any) -> None:
    tensor = bcq((23, 70), 0.5, 2)
    dirty = replace(tensor, planes=tensor.planes | ~tensor.mask)
    encoded = xorpack.encode(dirty, payload=payload)
    assert encoded.content_sha256 == digest_of(tensor) == content_sha256(encoded)


def test_watchers_see_every_row_whatever_the_digest_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xorpack.decoders.cpu.BLOCK_WORDS", 6)
    tensor = bcq((23, 70), 0.5, 2)
    new = xorpack.encode(tensor)
    for encoded in (new, with_digest_of_weights(new)):
        rows = Rows(tensor.dequantize())
        assert content_sha256(encoded, rows.watch) == encoded.content_sha256
        assert not rows.error.any()
        assert rows.n_kept.sum() == tensor.n_kept


@pytest.mark.parametrize("payload", ["xor", "packed"])
@pytest.mark.parametrize("dated", [False, True])
def test_what_was_written_before_is_read_and_either_finds_another_content(
    tmp_path: Path, payload: Any, dated: bool
) -> None:
    encoded = xorpack.encode(bcq((23, 70), 0.5, 2), payload=payload)
    encoded = with_digest_of_weights(encoded) if dated else encoded
    assert encoded.content_sha256.startswith("planes:") == (not dated)
    path = tmp_path / "model.safetensors"
    container.write(path, {NAME: encoded}, {})
    xorpack.verify_checkpoint(path)
    xorpack.decode_checkpoint(path, tmp_path / "decoded.safetensors")
    path.unlink()
    wrong = encoded.content_sha256[:-1] + ("0" if encoded.content_sha256[-1] != "0" else "1")
    container.write(path, {NAME: replace(encoded, content_sha256=wrong)}, {})
    with pytest.raises(CorruptError, match=rf"'{NAME}'.*decoded content does not match its checksum"):
        xorpack.verify_checkpoint(path)
    with pytest.raises(CorruptError, match="does not match its checksum"):
        xorpack.decode_checkpoint(path, tmp_path / "again.safetensors")


@pytest.mark.parametrize("section", ["code", "corrections", "mask", "scales"])
def test_sections_of_another_content_under_right_checksums(tmp_path: Path, section: str) -> None:
    path = write_bcq(tmp_path / "model.safetensors")

    def edit(d: dict[str, Any], t: dict[str, StoredTensor]) -> None:
        data = t[f"{NAME}.xor_{section}"].data
        if section == "mask":  # as many ones as before
            bits = np.unpackbits(data, bitorder="little").reshape(12, 40)
            t[f"{NAME}.xor_mask"] = StoredTensor.of(np.packbits(np.roll(bits, 1, 0), bitorder="little"))
        else:
            data[-1 if section == "corrections" else 0] ^= 1

    resign(path, edit)
    with pytest.raises((CorruptError, xorpack.errors.FormatError)):
        xorpack.verify_checkpoint(path)


def test_where_it_may_not_stand(tmp_path: Path) -> None:
    path, text = write_bcq(tmp_path / "model.safetensors"), "planes:" + "0" * 64
    refused(
        path,
        lambda d, t: record(d, PLAIN).update(content_sha256=text),
        f"'{PLAIN}'.*content_sha256 of planes, of kind 'lossless' in version 3",
    )
    for version in (1, 2):
        refused(
            path,
            lambda d, t, v=version: d.update(version=v),
            f"'{NAME}'.*content_sha256 of planes, of kind 'bcq' in version {version}",
        )
    old = write(tmp_path / "old.safetensors")
    refused(old, lambda d, t: record(d).update(content_sha256=text), "of planes, of kind 'bcq' in version 1")
    trellis = write_trellis(tmp_path / "trellis.safetensors")
    refused(trellis, lambda d, t: record(d).update(content_sha256=text), "planes, of kind 'trellis'")


def test_what_a_tensor_says_of_it() -> None:
    def of(encoded: EncodedTensor) -> bool:
        return encoded.digests_planes

    tensor = bcq((23, 70), 0.5, 2)
    for payload in ("xor", "packed"):
        new = xorpack.encode(tensor, payload=payload)
        assert of(new)
        assert of(with_digest_of_weights(new)) == (payload == "packed")
    assert not of(xorpack.encode(matrix()))
    assert not of(xorpack.encode(matrix(), payload="packed"))
