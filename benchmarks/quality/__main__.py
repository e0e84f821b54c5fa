"""Perplexity of SmolLM2-135M by setting: ``python -m benchmarks.quality [SETTING...] [--save]``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

import numpy as np

from benchmarks import report
from benchmarks.measure import Row
from benchmarks.quality.language import LanguageModel
from benchmarks.quality.setting import Setting

GOALS = {4: 34.0, 3: 45.0, 2: 250.0}
"""Perplexity without calibration, by stored bits per weight."""

SETTINGS = (
    "dense",
    "bcq:bits=4,group_size=0",
    "bcq:bits=4,group_size=128",
    "bcq:bits=4,group_size=64",
    "trellis:rate=4",
    "trellis:rate=3",
    "trellis:rate=2",
)

PACKAGES = ("torch", "transformers")


def main() -> None:
    """Print a row for each setting as it comes, and save it where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"default: {' '.join(SETTINGS)}")
    parser.add_argument("--sequences", type=int, default=4, help="of the text; default: 4")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence; default: 1024")
    parser.add_argument(
        "--every", type=int, default=1, help="quantize each N-th block only, for a quick look"
    )
    parser.add_argument("--jobs", type=int, default=2, help="threads; default: 2")
    parser.add_argument("--save", action="store_true", help="into results/quality.json and docs/results.md")
    options = parser.parse_args()
    if options.save and (options.sequences, options.length, options.every) != (4, 1024, 1):
        parser.error("only results of 4 sequences of 1024 tokens and of all blocks are saved")
    try:
        settings = [Setting.parse(text) for text in options.settings or SETTINGS]
    except ValueError as error:
        parser.error(str(error))
    model = LanguageModel(options.sequences, options.length)
    for row in measured(model, settings, options.every, options.jobs):
        print(f"{row.what}: {row.measured} ({row.note})", file=sys.stderr, flush=True)
        if options.save:
            save(row)


def save(row: Row) -> None:
    """Put a row into the results, in the place of an earlier one of its setting: a row takes minutes."""
    about = report.environment()
    about["versions"] |= {name: report.version(name) for name in PACKAGES}
    found = report.as_theme([row], about, "python -m benchmarks.quality SETTING... --save")
    earlier = report.saved("quality").get("quality", {"rows": []})["rows"]
    found["rows"] = [other for other in earlier if other["what"] != row.what] + found["rows"]
    report.save("quality", {"quality": found})


def measured(model: LanguageModel, settings: list[Setting], every: int, jobs: int) -> Iterator[Row]:
    """A row for each setting."""
    dense = model.weights()
    chosen = [name for name in dense if int(name.split(".")[2]) % every == 0]
    n_weights = sum(dense[name].size for name in chosen)
    for setting in settings:
        began, n_bytes, error, energy = time.perf_counter(), 0, 0.0, 0.0
        found = {}
        for name in chosen:
            found[name], stored = setting.apply(dense[name], jobs)
            n_bytes += stored
            error += float(((found[name] - dense[name]).astype(np.float64) ** 2).sum())
            energy += float((dense[name].astype(np.float64) ** 2).sum())
        seconds = time.perf_counter() - began
        model.set(found)
        bits = 8 * n_bytes / n_weights
        yield Row(
            what=f"perplexity, {setting.text}",
            samples=[model.perplexity()],
            digits=1,
            at_most=GOALS.get(round(bits)) if setting.method == "trellis" else None,
            note=f"{bits:.3f} bits stored, D {error / energy:.5f}, {seconds:.0f} s to quantize",
        )


if __name__ == "__main__":
    main()
