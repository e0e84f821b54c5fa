"""Running a study: tables, cache, resumption, files."""

from __future__ import annotations

import io
import json

import ml_dtypes
import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import save_file
from samples import pruned

import studies
import xorpack
from studies import density, figures, patterns, render
from studies.cache import Cache, describe
from xorpack.encoding.quantize.pruning import magnitude_mask
from xorpack.errors import DataError, DestinationError, FormatError, ParameterError

QUICK = {"quick": True, "seeds": 1}


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "m.safetensors"
    tensors = {f"layers.{i}.mlp.weight": pruned((96, 256), 0.0, seed=i) for i in range(2)}
    tensors["layers.0.half.weight"] = pruned((64, 160), 0.0, ml_dtypes.bfloat16)
    save_file({**tensors, "embeddings.weight": pruned((50, 64), 0.0)}, path)
    return path


@pytest.mark.parametrize("name", studies.TABLES)
def test_every_table(name, tmp_path, model):
    """Its grids are rectangles that fit 80 columns; its figure is drawn; all of it is JSON."""
    uses_model = name in ("masks", "planes")
    found = studies.run([name], **QUICK, model=model if uses_model else None)
    grids = found.grids(name)
    assert any(grid.brief for grid in grids)
    console = Console(width=80, record=True, file=open(tmp_path / "text", "w"))  # noqa: SIM115
    for grid in grids:
        assert grid.rows
        assert {len(row) for row in grid.rows} == {len(grid.columns)}
        for table in render.terminal(grid, 80):
            console.print(table)
        cells = [cell for row in grid.rows for cell in row]
        assert "nan" not in " ".join(cells)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    console.file.close()
    written = studies.write(found, tmp_path / "out")
    assert written == ["study.json", "study.md", f"{name}.png", f"{name}.svg"]
    document = json.loads((tmp_path / "out" / "study.json").read_text())
    assert document["tables"][name]["cells"]
    assert ("3 of 3 matrices" in str(document["model"])) is uses_model
    assert "real" in text if uses_model else document["model"] is None
    assert (tmp_path / "out" / f"{name}.png").read_bytes()[1:4] == b"PNG"


def test_names_are_a_closed_set():
    assert [table.name for table in studies.select(())] == list(studies.TABLES)
    assert [table.name for table in studies.select(["windows", "masks"])] == ["masks", "windows"]
    with pytest.raises(ParameterError, match="table 'bogus' is not one of networks, masks"):
        studies.run(["bogus"])


@pytest.mark.parametrize(("options", "message"), [({"seeds": 0}, "seeds = 0"), ({"jobs": 0}, "jobs = 0")])
def test_numbers_are_checked(options, message):
    with pytest.raises(ParameterError, match=message):
        studies.run(["blocks"], **options)


class StopError(Exception):
    pass


def stop_after(n):
    done = []

    def progress(name, share, total):
        done.append(share)
        assert sum(done) <= total
        if len(done) == n:
            raise StopError

    return progress


def test_an_interrupted_run_goes_on(tmp_path):
    with pytest.raises(StopError):
        studies.run(["blocks"], **QUICK, cache=tmp_path, progress=stop_after(5))
    cells = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert len(cells) == 5
    again = studies.run(["blocks"], **QUICK, cache=tmp_path, jobs=2)
    assert again.n_reused == 5
    assert all(path.stat().st_mtime_ns == at for path, at in cells.items())
    assert again.as_dict() == studies.run(["blocks"], **QUICK).as_dict()
    third = studies.run(["blocks"], **QUICK, cache=tmp_path)
    assert (third.n_measured, third.as_dict()) == (0, again.as_dict())
    assert studies.run(["blocks"], **QUICK, cache=tmp_path, fresh=True).n_reused == 0
    assert not [path for path in tmp_path.rglob("*") if path.suffix != ".json" and path.is_file()]


def damaged(text):
    document = json.loads(text)
    sample = document["result"]["samples"][0]
    yield "empty", ""
    yield "truncated", text[: len(text) // 2]
    yield "not JSON", "\x00" + text
    yield "a list", "[1, 2]"
    yield "deep", "[" * 100_000
    yield "no result", json.dumps({key: value for key, value in document.items() if key != "result"})
    yield "another number", text.replace(str(sample["wrong_bits"]), str(sample["wrong_bits"] + 1), 1)
    yield "another cell", json.dumps(document | {"key": document["key"] | {"params": {}}})
    yield "another version", json.dumps(document | {"key": document["key"] | {"version": "0.0.0"}})


def test_a_damaged_cell_is_measured_again(tmp_path):
    table = studies.TABLES["blocks"]
    params = next(cell.params for cell in table.plan(studies.Scope(quick=True, seeds=1)))
    cache = Cache(tmp_path)
    result = table.measure(params, None)
    cache.store(table, params, result, 1.0)
    (path,) = tmp_path.rglob("*.json")
    text = path.read_text()
    assert cache.load(table, params) == result
    for what, damage in damaged(text):
        path.write_text(damage)
        assert cache.load(table, params) is None, what
        cache.store(table, params, result, 1.0)
        assert cache.load(table, params) == result, what
    path.write_bytes(b"\xff\xfe")
    assert cache.load(table, params) is None
    assert cache.load(table, {**params, "seeds": 2}) is None


def test_no_damage_to_a_cell_gives_another_result(tmp_path):
    """Every truncation, and a flipped bit in every byte: the same result, or none."""
    table = studies.TABLES["blocks"]
    params = next(cell.params for cell in table.plan(studies.Scope(quick=True, seeds=1)))
    cache, result = Cache(tmp_path), {"samples": [{"care_bits": 12, "spread": [0.5, None]}]}
    cache.store(table, params, result, 0.25)
    (path,) = tmp_path.rglob("*.json")
    data = path.read_bytes()
    for length in range(len(data) - 1):  # all but the last line's end
        path.write_bytes(data[:length])
        assert cache.load(table, params) is None
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        assert cache.load(table, params) in (None, result)


def test_a_cell_is_keyed_by_everything_it_depends_on(monkeypatch):
    table = studies.TABLES["blocks"]
    before = describe(table, {"a": 1})
    assert before["version"] == xorpack.__version__
    assert describe(table, {"a": 2}) != before
    assert describe(studies.TABLES["masks"], {"a": 1})["sources"] != before["sources"]
    monkeypatch.setattr(xorpack, "__version__", "9.9.9")
    assert describe(table, {"a": 1}) != before


def test_the_same_study_gives_the_same_files(tmp_path):
    for name, jobs in (("a", 1), ("b", 2)):
        found = studies.run(["windows"], **QUICK, jobs=jobs)
        studies.write(found, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["study.json", "study.md", "windows.png", "windows.svg"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_files_of_an_earlier_study_are_replaced_only_if_asked(tmp_path):
    found = studies.run(["alexnet"], **QUICK)
    (tmp_path / "mine.txt").write_text("mine")
    studies.write(found, tmp_path)
    with pytest.raises(DestinationError, match=r"holds study.json; remove it or ask to overwrite it"):
        studies.write(found, tmp_path)
    studies.write(found, tmp_path, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"
    with pytest.raises(DestinationError, match="is not a directory"):
        studies.write(found, tmp_path / "mine.txt")
    with pytest.raises(DestinationError, match="is not a directory"):
        studies.write(found, tmp_path / "no" / "where")
    assert found.markdown().count("![") == 0
    assert (tmp_path / "study.md").read_text().count("![") == 1


@pytest.mark.parametrize("form", figures.FORMATS)
def test_a_figure_has_the_bound_and_no_date(form, tmp_path):
    figure = studies.run(["blocks"], **QUICK).figure("blocks")
    for axes in figure.axes:
        assert any(line.get_label() == "bound" and set(line.get_ydata()) == {1.0} for line in axes.lines)
    figures.save(figure, tmp_path / "f", form)
    assert b"<dc:date>" not in (tmp_path / "f").read_bytes()


def test_models_that_are_none(tmp_path, model):
    with pytest.raises(FileNotFoundError, match="nothing: no such file"):
        studies.Weights.open(tmp_path / "nothing")
    (tmp_path / "text").write_text("just some text, long enough")
    with pytest.raises(FormatError, match="not a safetensors file"):
        studies.Weights.open(tmp_path / "text")
    xorpack.encode_checkpoint(model, tmp_path / "x.safetensors")
    with pytest.raises(FormatError, match="encoded by xorpack already; decode it first"):
        studies.Weights.open(tmp_path / "x.safetensors")
    save_file({"embeddings.weight": pruned((50, 64), 0.0)}, tmp_path / "e.safetensors")
    with pytest.raises(DataError, match="no float matrix of 1024 weights outside"):
        studies.Weights.open(tmp_path / "e.safetensors")
    bad = pruned((50, 64), 0.0)
    bad[3, 4] = np.nan
    save_file({"a.weight": bad}, tmp_path / "n.safetensors")
    with pytest.raises(DataError, match=r"a.weight is nan at flat position 196"):
        studies.Weights.open(tmp_path / "n.safetensors")


def test_a_large_model_is_looked_at_in_part(tmp_path, monkeypatch):
    tensors = {f"l{i}.weight": pruned((100, 64), 0.0, seed=i) for i in range(6)}
    save_file(tensors, tmp_path / "m.safetensors")
    monkeypatch.setattr("studies.weights.MATRIX_WEIGHTS", 640)
    monkeypatch.setattr("studies.weights.TOTAL_WEIGHTS", 2000)
    weights = studies.Weights.open(tmp_path / "m.safetensors")
    names = list(weights.matrices)
    assert len(names) == 3
    assert names == sorted(names)
    for name in names:
        assert np.array_equal(weights.load(name), tensors[name][:10])
    assert len(weights.some(2)) == 2
    assert set(weights.some(2)) < set(weights.some(None)) == set(names)
    assert "3 of 6 matrices" in weights.describe()


def test_the_content_of_a_matrix_is_in_the_key(tmp_path):
    digests = []
    for seed in range(2):
        save_file({"a.weight": pruned((32, 64), 0.0, seed=seed)}, tmp_path / "m.safetensors")
        digests.append(studies.Weights.open(tmp_path / "m.safetensors").digests["a.weight"])
    assert digests[0] != digests[1]


def test_matrices_that_say_nothing_are_left_out(tmp_path):
    zeros = np.zeros((64, 64), np.float32)
    tensors = {"nothing.weight": zeros, "tiny.weight": pruned((8, 8), 0.0), "empty.weight": zeros[:0]}
    save_file(tensors, tmp_path / "z.safetensors")
    with pytest.raises(DataError, match="all weights of its matrices are zero"):
        studies.Weights.open(tmp_path / "z.safetensors")
    save_file({**tensors, "good.weight": pruned((40, 50), 0.999)}, tmp_path / "g.safetensors")
    found = studies.run(["masks", "planes"], **QUICK, model=tmp_path / "g.safetensors")
    assert found.scope.weights is not None
    assert list(found.scope.weights.matrices) == ["good.weight"]
    real = [row for row in found.grids("masks")[0].rows if row[0] == "real (1)"]
    assert all(float(row[1]) >= 0.99 for row in real), "pruned further than asked: say so"


def test_pictures_of_a_mask():
    weight = patterns.structured_weight(np.random.default_rng(5), "rows", 256, 320)
    mask = magnitude_mask(weight, 0.9)
    for draw in (density.draw_density, density.draw_orders):
        picture = figures.png(figures.make(lambda figure, draw=draw: draw(figure, mask, 320), (9.0, 3.0)))
        assert picture[1:4] == b"PNG"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_a_narrow_terminal_breaks_no_number(width):
    columns = ("what it is", "S", *(f"column {k}" for k in range(8)))
    rows = [
        ["a [red]name[/red]", "0.95", *(f"{k + r / 7:.4f} (0.{k}{r})" for k in range(8))] for r in range(3)
    ]
    grid = studies.Grid(title="title", columns=columns, rows=rows, n_keys=2)
    console = Console(width=max(width, 40), record=True, file=io.StringIO())
    pieces = list(render.terminal(grid, console.width))
    assert len(pieces) == 1 if width >= 80 else len(pieces) > 1
    for piece in pieces:
        console.print(piece)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= console.width
    for row in rows:
        for cell in row:
            assert all(part in text for part in cell.split())
