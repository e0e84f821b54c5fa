"""Notebooks as they are committed: executed, without errors, small, naming no path of a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted(Path(__file__).parents[1].joinpath("notebooks").glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == [str(i + 1) for i in range(len(NOTEBOOKS))]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_executed_and_small(path) -> None:
    assert path.stat().st_size < 500_000
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    for cell in cells:
        source = "".join(cell["source"])
        assert "def " not in source
        assert "class " not in source
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            text = "".join(output.get("text", [])) + "".join(output.get("data", {}).get("text/plain", []))
            assert "site-packages" not in text
            assert "/tmp/" not in text
