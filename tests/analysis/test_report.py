"""Reports of encoded and plain checkpoints: every byte, every format, and wrong input."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import hostile, pruned

import xorpack
from xorpack.analysis.report import RENDERERS, Options, render
from xorpack.analysis.report.contents import SORT
from xorpack.checkpoint.report import report_checkpoint
from xorpack.checkpoint.settings import Settings
from xorpack.errors import FormatError, MismatchError, ParameterError

GOLDEN = sorted(Path(__file__).parents[1].joinpath("golden").glob("*.safetensors"))


def tensors(sparsity: float = 0.9) -> dict[str, np.ndarray]:
    found = {f"model.layers.{i}.mlp.weight": pruned((128, 32 * (i + 3)), sparsity, seed=i) for i in range(4)}
    return {
        **found,
        "model.embed.weight": pruned((50, 64), 0.0),
        "model.layers.0.mlp.bias": pruned((128,), 0.0),
    }


@pytest.fixture
def plain(tmp_path) -> Path:
    path = tmp_path / "plain.safetensors"
    save_file(tensors(), path, metadata={"format": "pt"})
    return path


@pytest.fixture
def encoded(plain, tmp_path) -> Path:
    path = tmp_path / "encoded.safetensors"
    xorpack.encode_checkpoint(plain, path, bits=2)
    return path


def run(*arguments, **options):
    command = [sys.executable, "-m", "xorpack", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_byte_of_every_golden_file_is_in_one_part(path) -> None:
    report = report_checkpoint(path)
    assert sum(part.n_bytes for part in report.parts) == report.total_bytes == path.stat().st_size
    assert report.total.n_bytes + sum(c.n_bytes for c in report.carried) == path.stat().st_size
    for form in RENDERERS:
        assert render(report, form), form


def test_a_network_says_how_its_window_moves() -> None:
    (path,) = (path for path in GOLDEN if path.stem == "turned")
    found = {tensor.name: tensor.network for tensor in report_checkpoint(path).tensors}
    assert found["lanes"] == "turned: window 16, held for 4 steps, 256 rows"


def test_every_byte_of_a_directory(tmp_path) -> None:
    source, target = tmp_path / "model", tmp_path / "out"
    source.mkdir()
    shards = {}
    for i, name in enumerate(tensors()):
        shards[name] = f"model-{i % 2}.safetensors"
    for shard in set(shards.values()):
        save_file({n: a for n, a in tensors().items() if shards[n] == shard}, source / shard)
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    (source / "config.json").write_text('{"a": 1}')
    (source / "tokenizer.txt").write_text("x" * 1000)
    xorpack.encode_checkpoint(source, target, lossless=True)
    for directory in (source, target):
        on_disk = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        report = report_checkpoint(directory)
        assert sum(part.n_bytes for part in report.parts) == report.total_bytes == on_disk
        assert report.n_files == 2
    (source / "model-1.safetensors").unlink()
    with pytest.raises(FormatError, match=r"model-1\.safetensors, which is missing"):
        report_checkpoint(source)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("lossless", [False, True])
def test_sizes_and_bounds_agree_with_the_tensors(tmp_path, sparsity, lossless) -> None:
    plain, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file(tensors(sparsity), plain)
    xorpack.encode_checkpoint(plain, target, lossless=lossless)
    report, opened = report_checkpoint(target), xorpack.open(target)
    for found in report.tensors:
        tensor = opened[found.name]
        assert found.account.section_bytes == tensor.section_bytes()
        assert found.account.n_kept == tensor.n_kept
        assert found.account.efficiency == tensor.efficiency
        n_heads = tensor.field.code.n_raw if tensor.field else 0
        assert len(found.coded) + n_heads == len(tensor.code)
        assert list(found.in_field) == (list(tensor.field.code.planes) if tensor.field else [])
        overheads = (found.account.payload_overhead, found.account.total_overhead)
        assert all(value is None or value > 0.97 for value in overheads)


def test_a_plain_estimate_is_near_what_encoding_gives(plain, encoded, tmp_path) -> None:
    estimate, real = report_checkpoint(plain), report_checkpoint(encoded)
    assert estimate.kind == "plain"
    assert real.kind == "encoded"
    sections = sum(real.total.section_bytes.values())
    assert abs(estimate.total.n_bytes / sections - 1) < 0.08
    exact = tmp_path / "exact.safetensors"
    xorpack.encode_checkpoint(plain, exact, lossless=True)
    assert abs(estimate.exact.n_bytes / sum(report_checkpoint(exact).total.section_bytes.values()) - 1) < 0.08


def test_a_sample_is_really_encoded(plain, encoded) -> None:
    for path, variants in ((plain, {"lossless", "2-bit"}), (encoded, {"2-bit"})):
        found = report_checkpoint(path, sample=20_000).comparison
        assert set(found) == variants
        for comparison in found.values():
            assert 10_000 < comparison.n_weights <= 20_000
            assert comparison.rows[0].name == "xorpack"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
@pytest.mark.parametrize("which", ["plain", "encoded"])
def test_text_fits_the_terminal(request, which, width) -> None:
    report = report_checkpoint(request.getfixturevalue(which), sample=20_000)
    text = render(report, "text", width=width)
    assert "What costs most" in text
    assert "\x1b" not in text
    if width >= 60:
        path = str(request.getfixturevalue(which))
        assert all(len(line) <= width for line in text.splitlines() if path not in line and "/" not in line)
    assert "\x1b[1m" in render(report, "text", width=width, colour=True)


def test_names_keep_what_tells_them_apart(encoded) -> None:
    text = render(report_checkpoint(encoded), "text", width=60, top=2)
    assert re.search(r"^0 +0\.9", text, re.MULTILINE)
    assert re.search(r"^1 +0\.9", text, re.MULTILINE)


def test_markdown_tables_are_whole(plain, encoded) -> None:
    for path in (plain, encoded):
        lines = render(report_checkpoint(path, sample=20_000), "markdown").splitlines()
        rows = [line for line in lines if line.startswith("|")]
        columns = 0
        for line in lines:
            n = len(re.findall(r"(?<!\\)\|", line))
            columns = n if not columns and line.startswith("|") else columns if line.startswith("|") else 0
            assert not line.startswith("|") or n == columns
        assert len(rows) > 20


def test_json_and_csv_hold_the_numbers(encoded, plain) -> None:
    for path in (encoded, plain):
        report = report_checkpoint(path)
        document = json.loads(render(report, "json"))
        assert sum(document["parts"].values()) == document["total_bytes"] == path.stat().st_size
        assert list(document["tensors"]) == [t.name for t in report.tensors]
        lines = list(csv.DictReader(io.StringIO(render(report, "csv"))))
        assert [line["tensor"] for line in lines] == list(document["tensors"])
        for line in lines:
            tensor = document["tensors"][line["tensor"]]
            assert int(line["code_bytes"]) == tensor["bytes"]["code"]
            assert np.isclose(float(line["mask_iid"]), tensor["mask_entropy"]["iid"], atol=1e-6)


class Outside(HTMLParser):
    """Collects what a page would load, and whether its tags are in order."""

    VOID = frozenset(("meta", "link", "input", "br", "path", "use", "image", "rect"))

    def __init__(self) -> None:
        super().__init__()
        self.loads, self.open = [], []

    def handle_starttag(self, tag, attributes) -> None:
        for name, value in attributes:
            inside = value is not None and value.startswith(("data:", "#"))
            if name in ("src", "href", "xlink:href", "srcset") and not inside:
                self.loads.append((tag, value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_html_stands_alone(plain, encoded) -> None:
    for path in (plain, encoded):
        page = render(report_checkpoint(path, n_maps=2), "html")
        parser = Outside()
        parser.feed(page)
        assert parser.loads == []
        assert parser.open == []
        assert page.count("<svg") == page.count("<figcaption>") == (4 if path == encoded else 2)
        assert "@import" not in page
        assert "url(http" not in page


def test_html_is_escaped(tmp_path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(
        {"<script>alert(1)</script>.weight": pruned((64, 64), 0.5), "b.weight": pruned((64, 64), 0.5)}, path
    )
    page = render(report_checkpoint(path), "html")
    assert "<script>alert" not in page
    assert page.count("<script>") == 1


def test_the_worst_first(encoded) -> None:
    report = report_checkpoint(encoded)
    for sort, key in SORT.items():
        listed = Options(sort=sort, top=3).listed(report)
        assert [key(t) for t in listed] == sorted(key(t) for t in report.tensors)[:3]
    assert len(Options().listed(report)) == 4


def test_advice_names_what_costs_most(plain, encoded, tmp_path) -> None:
    assert "The mask is" in " ".join(report_checkpoint(encoded).advice)
    bitmap = tmp_path / "bitmap.safetensors"
    xorpack.encode_checkpoint(plain, bitmap, bits=2, prefer="speed", payload="xor")
    advice = " ".join(report_checkpoint(bitmap).advice)
    assert "--prefer size" in advice
    assert "--prefer speed packs" in advice
    fast = tmp_path / "fast.safetensors"
    xorpack.encode_checkpoint(plain, fast, bits=2, prefer="speed")
    advice = " ".join(report_checkpoint(fast).advice)
    assert "--payload xor" in advice
    assert "packs" not in advice
    dense = tmp_path / "dense.safetensors"
    save_file(tensors(0.0), dense)
    report = report_checkpoint(dense)
    assert "Nothing is pruned" in report.advice[0]
    assert "--lossless" in " ".join(report.advice)
    what_if = report_checkpoint(dense, settings=Settings(bits=3, sparsity=0.8))
    assert abs(what_if.total.sparsity - 0.8) < 0.001
    assert "--bits 3 --sparsity 0.8" in " ".join(what_if.advice)
    negative = tmp_path / "negative.safetensors"
    save_file({n: np.where(a == 0, np.float32(-0.0), a) for n, a in tensors().items()}, negative)
    assert "--positive-zeros" in report_checkpoint(negative).advice[0]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int8])
def test_other_types_and_ugly_values(tmp_path, dtype) -> None:
    path = tmp_path / "a.safetensors"
    extra = {"empty.weight": np.zeros((0, 8), dtype), "one.weight": np.ones((1, 1), dtype)}
    save_file({"a.weight": hostile(dtype), **extra}, path)
    report = report_checkpoint(path, n_maps=3)
    assert [t.name for t in report.tensors]
    assert set(report.formats) == ({"lossless"} if dtype == np.int8 else {"lossless", "2-bit"})
    for form in RENDERERS:
        assert render(report, form), form


def test_the_command(encoded, tmp_path) -> None:
    done = run(encoded)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{encoded}: encoded, 1 file")
    for form in RENDERERS:
        target = tmp_path / f"out.{form}"
        done = run(encoded, "--format", form, "--output", target)
        assert (done.returncode, done.stderr) == (0, "")
        assert target.stat().st_size
    assert run(encoded, "--sample", "20k", "--top", "2", "--sort", "overhead").returncode == 0


def test_without_matplotlib(encoded) -> None:
    hide = "import sys; sys.modules['matplotlib'] = None; from xorpack.cli import main; main()"
    command = [sys.executable, "-c", hide, "report", str(encoded), "--format", "html"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No plots: matplotlib is not installed" in done.stdout
    assert "<svg" not in done.stdout


WRONG = [
    (["nothing"], 1, "nothing: no such file or directory"),
    (["text.safetensors"], 1, "text.safetensors: not a safetensors file"),
    (["E", "--bits", "3"], 2, "is encoded already: patterns and settings are for plain checkpoints"),
    (["P", "--bits", "9"], 2, "9 is not in the range 1<=x<=8"),
    (["P", "--sparsity", "2"], 2, "sparsity = 2.0 is outside [0, 1)"),
    (["P", "--include", "typo"], 2, "pattern 'typo' matches none of the 6 tensors"),
    (["P", "--sample", "many"], 2, "'many' is not a number of weights"),
    (["P", "--output", "no/where.txt"], 1, "no is not a directory"),
    (["P", "--output", "P"], 1, "exists; remove it or ask to overwrite it"),
    (["."], 1, "not one that xorpack encoded"),
    (["empty"], 1, "a directory without .safetensors files"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "message"), WRONG, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_wrong_input(plain, encoded, tmp_path, arguments, code, message) -> None:
    (tmp_path / "empty").mkdir()
    if arguments[0] == "text.safetensors":
        (tmp_path / "text.safetensors").write_text("this is no checkpoint at all")
    names = {"P": plain.name, "E": encoded.name}
    before = sorted(tmp_path.rglob("*"))
    done = run(*(names.get(a, a) for a in arguments), cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_mask(plain, tmp_path) -> None:
    target = tmp_path / "bitmap.safetensors"
    xorpack.encode_checkpoint(plain, target, bits=2, mask_codec="bitmap")
    data = bytearray(target.read_bytes())
    mask = xorpack.open(target)["model.layers.2.mlp.weight"].mask.data.tobytes()
    data[data.index(mask[:64]) + 5] ^= 0xFF
    target.write_bytes(data)
    done = run(target)
    assert done.returncode == 1
    assert "tensor 'model.layers.2.mlp.weight': the mask keeps" in done.stderr


def test_an_unknown_format(encoded) -> None:
    with pytest.raises(ParameterError, match="'pdf' is not one of text, json"):
        render(report_checkpoint(encoded), "pdf")
    with pytest.raises(ParameterError, match="sort 'colour' is not one of size"):
        render(report_checkpoint(encoded), sort="colour")


def test_settings_of_lossless_are_refused(plain) -> None:
    with pytest.raises(ParameterError, match="leave lossless out"):
        report_checkpoint(plain, settings=Settings(lossless=True))
    with pytest.raises(ParameterError, match="sample = 0"):
        report_checkpoint(plain, sample=0)


def test_errors_stand_beside_the_bounds_of_their_rate(plain, encoded, tmp_path) -> None:
    report = report_checkpoint(encoded, against=plain)
    weights = {name: weight.astype(np.float64) for name, weight in tensors().items()}
    opened = xorpack.open(encoded)
    for found in report.tensors:
        weight, stored = weights[found.name], xorpack.decode(opened[found.name]).dequantize()
        d = np.square(weight - stored).sum() / np.square(weight).sum()
        assert found.distortion.relative == pytest.approx(d, rel=1e-6)
        rate = 8 * sum(opened[found.name].section_bytes().values()) / weight.size
        assert found.distortion.above_gaussian == pytest.approx(10 * np.log10(d * 4**rate), abs=1e-6)
        assert found.distortion.above_bound > 0
    text = render(report, "text", width=160)
    assert re.search(r"D +dB to Gauss +dB to own", text)
    document = json.loads(render(report, "json"))
    assert document["distortion"]["relative_squared_error"] == report.distortion.relative
    for form in RENDERERS:
        assert "dB to own" in render(report, form) or form in ("json", "csv")
        assert "dB to own" not in render(report_checkpoint(encoded), form)
    done = run(encoded, "--against", plain, "--output", plain, "--overwrite")
    assert done.returncode == 2
    assert str(plain) in done.stderr
    assert plain.stat().st_size > 50_000
    assert "dB to own" in run(encoded, "--against", plain).stdout


def test_errors_of_a_trellis_are_near_the_bound(tmp_path) -> None:
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    weight = np.random.default_rng(5).standard_normal((192, 256), dtype=np.float32)
    save_file({"proj.weight": weight}, path)
    xorpack.encode_checkpoint(path, out, rate=1.0)
    (found,) = report_checkpoint(out, against=path).tensors
    assert 0.3 < found.distortion.above_gaussian < found.distortion.above_bound < 1.2


def test_errors_of_lossless_tensors_are_none(plain, tmp_path) -> None:
    exact = tmp_path / "exact.safetensors"
    xorpack.encode_checkpoint(plain, exact, lossless=True)
    assert report_checkpoint(exact, against=plain).distortion is None


def test_what_cannot_be_compared_says_so(plain, encoded, tmp_path) -> None:
    other = {**tensors(), "model.layers.1.mlp.weight": np.zeros((128, 33), np.float32)}
    save_file(other, tmp_path / "shape.safetensors")
    with pytest.raises(
        MismatchError, match=r"layers.1.*F32 \[128, 128\] was encoded, .* has F32 \[128, 33\]"
    ):
        report_checkpoint(encoded, against=tmp_path / "shape.safetensors")
    del other["model.layers.1.mlp.weight"]
    save_file(other, tmp_path / "less.safetensors")
    with pytest.raises(MismatchError, match="has none of that name"):
        report_checkpoint(encoded, against=tmp_path / "less.safetensors")
    with pytest.raises(ParameterError, match="is plain: against is for what was encoded"):
        report_checkpoint(plain, against=plain)
    with pytest.raises(FileNotFoundError):
        report_checkpoint(encoded, against=tmp_path / "nothing")


def test_a_row_that_one_weight_ruins_is_not_silent(tmp_path) -> None:
    weight = pruned((128, 256), 0.0)
    weight[3, 5] *= 1000
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"proj.weight": weight}, path)
    options = ["--bits", "2", "--group-size", "0", "--jobs", "1"]
    command = [sys.executable, "-m", "xorpack", "encode", str(path), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "note: 1 row of 1 tensor ruined, most in proj.weight: one weight is larger" in done.stderr
    assert re.search(r" D +dB +seconds", done.stdout)
    assert report_checkpoint(out, against=path).advice[0].startswith("1 row of 1 tensor ruined")
    assert "ruined" not in " ".join(report_checkpoint(out).advice)


def test_the_report_of_encoding_has_the_errors(plain, tmp_path) -> None:
    done = xorpack.encode_checkpoint(plain, tmp_path / "x.safetensors", bits=2)
    report = report_checkpoint(tmp_path / "x.safetensors", against=plain)
    assert set(done.distortions) == {t.name for t in report.tensors} == set(done.accounts)
    for found in report.tensors:
        assert done.distortions[found.name].relative == found.distortion.relative
    assert done.distortion.relative == report.distortion.relative
    assert xorpack.encode_checkpoint(plain, tmp_path / "y", dry_run=True).distortion is None
