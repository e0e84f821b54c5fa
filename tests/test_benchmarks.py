"""What benchmarks leave behind: goals that are judged, results that replace earlier ones, one page of all."""

from __future__ import annotations

import json
import re

import pytest
from samples import bcq

import xorpack
from benchmarks import data, report, sizes
from benchmarks.gpu import goals, memory
from benchmarks.measure import Row
from xorpack.analysis.report import render
from xorpack.files import container

ROWS = [
    Row(what="fast", samples=[3.0, 1.0, 2.0], unit="x", at_least=1.5),
    Row(what="small", samples=[0.5], unit="bits", at_most=0.4, note="why"),
    Row(what="absent", note="not installed"),
]


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(report, "PAGE", tmp_path / "docs" / "results.md")
    return tmp_path


def theme(rows, **more):
    return report.as_theme(rows, report.environment() | more, "python -m benchmarks x")


def test_rows_are_judged_by_their_median() -> None:
    assert [row.met for row in ROWS] == ["yes", "no", "-"]
    assert ROWS[0].spread == "1.00 .. 3.00 (3)"


def test_a_run_replaces_its_own_themes_only(results) -> None:
    report.save("cpu", {"a": theme(ROWS), "b": theme(ROWS[:1])})
    report.save("cpu", {"b": theme(ROWS[1:2])})
    saved = json.loads((results / "results" / "cpu.json").read_text())
    assert [row["what"] for row in saved["a"]["rows"]] == ["fast", "small", "absent"]
    assert [row["what"] for row in saved["b"]["rows"]] == ["small"]
    assert saved["a"]["rows"][0]["samples"] == [3, 1, 2]
    page = (results / "docs" / "results.md").read_text()
    assert "1 of 3 goals are met" in page
    assert page.count("`python -m benchmarks x`") == 4
    assert re.search(r"\| b \| small \| <= 0.4 bits \| 0.50 bits \|", page)


def test_results_of_a_gpu_stand_on_the_same_page(results) -> None:
    report.save("cpu", {"a": theme(ROWS[:1])})
    report.save("gpu", {"GPU: products": theme(ROWS[:1], machine="a processor; a GPU, driver 1")})
    page = (results / "docs" / "results.md").read_text()
    assert "## GPU: products" in page
    assert "a GPU, driver 1" in page


def test_goals_wait_for_a_gpu_and_are_replaced(results) -> None:
    waiting = goals.unmeasured()
    report.save("gpu", {name: theme(rows) for name, rows in waiting.items()})
    page = (results / "docs" / "results.md").read_text()
    assert page.count("not measured: no GPU was at hand") == sum(map(len, waiting.values()))
    assert "0 of 0 goals are met" in page
    report.save("gpu", {"products": theme(ROWS[:1])})
    assert len(report.saved("gpu")["products"]["rows"]) == 1


def test_memory_of_loaded_tensors() -> None:
    encoded = xorpack.encode(data.random_bcq(256, 0.9, 2))
    ledger = memory.Ledger()
    found = memory.memory(encoded, ledger)
    assert found["total"] <= 1.06 * found["stored"]  # padding of a small tensor
    assert memory.memory(encoded, ledger)["shared"] == ledger.shared


def test_the_figure_of_sizes_is_of_a_reports_numbers(tmp_path):
    container.write(tmp_path / "e.safetensors", {"a": xorpack.encode(bcq((64, 256), 0.9))}, {})
    document = json.loads(render(xorpack.report_checkpoint(tmp_path / "e.safetensors"), "json"))
    figure = sizes.draw(document)
    (rows,) = document["formats"].values()
    bits = {row["name"]: row["bits_per_weight"] for row in rows}
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [
        min(bits[name], 4.0) for name in reversed(sizes.NAMES)
    ]
    assert [label.get_text() for label in axes.get_yticklabels()] == list(reversed(sizes.NAMES.values()))


def test_what_is_counted_without_a_gpu(results) -> None:
    """Goals of instructions are judged; a theme that a GPU has measured is left."""
    report.save("gpu", {"GPU: products": theme(ROWS[:1])})
    report.save("gpu", memory.without_gpu(report.environment()))
    found = report.saved("gpu")
    assert found["GPU: products"]["rows"][0]["what"] == ROWS[0].what
    assert [row["met"] for row in found["GPU: instructions"]["rows"]] == ["yes"] * len(goals.counted())
    assert found["GPU: correctness"]["rows"][0]["measured"] == goals.NOTE
