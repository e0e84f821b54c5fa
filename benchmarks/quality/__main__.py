"""Quality of a model by setting: ``python -m benchmarks.quality [SETTING...] [--model NAME] [--save]``."""

from __future__ import annotations

import argparse
import copy
import importlib
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import xorpack
from benchmarks import report
from benchmarks.measure import Row
from benchmarks.quality.calibrated import hessians_of
from benchmarks.quality.layers import Model
from benchmarks.quality.score import SHARE
from benchmarks.quality.setting import Setting
from xorpack.encoding.fitting.hessian import output_energy
from xorpack.files.hessians import Hessians

MODELS = {
    "smollm2": ("language", "LanguageModel"),
    "minilm": ("similarity", "SentenceModel"),
    "digits": ("digits", "Digits"),
    "pruned-digits": ("digits", "PrunedDigits"),
}
"""Module and class of each."""

SETTINGS = (
    "dense",
    "bcq:bits=4,group_size=0",
    "bcq:bits=4",
    "trellis:rate=4",
    "trellis:rate=3",
    "trellis:rate=2",
)

PACKAGES = ("torch", "transformers")

FULL = {"sequences": 4, "length": 1024, "every": 1, "text": None}


def main() -> None:
    """Print a row for each setting as it comes, and save it where asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("settings", nargs="*", metavar="SETTING", help=f"default: {' '.join(SETTINGS)}")
    parser.add_argument("--model", choices=MODELS, default="smollm2", help="default: smollm2")
    parser.add_argument("--sequences", type=int, default=4, help="of smollm2's text; default: 4")
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence; default: 1024")
    parser.add_argument(
        "--every", type=int, default=1, help="quantize each N-th block of smollm2 only, for a quick look"
    )
    parser.add_argument(
        "--text", type=Path, help="score smollm2 on this text instead: choices are not made on the test's"
    )
    parser.add_argument("--jobs", type=int, default=2, help="threads; default: 2")
    parser.add_argument(
        "--stats",
        type=Path,
        help="what fit and gptq know of activations, and errors of outputs are told by; collected, for some minutes, "
        "if it is not there",
    )
    parser.add_argument(
        "--directory", type=Path, help="measure what xorpack encode or tune wrote, instead of settings"
    )
    parser.add_argument("--called", default="", metavar="TEXT", help="what the row calls it")
    parser.add_argument("--save", action="store_true", help="into results/quality.json and docs/results.md")
    options = parser.parse_args()
    quick = any(getattr(options, name) != value for name, value in FULL.items())
    if quick and options.save:
        parser.error(
            "only results of 4 sequences of 1024 tokens of the test's text and of all blocks are saved"
        )
    if quick and options.model != "smollm2":
        parser.error("--sequences, --length, --every and --text are of smollm2")
    try:
        texts = options.settings or (SETTINGS if options.directory is None else ())
        settings = [Setting.parse(text) for text in texts]
    except ValueError as error:
        parser.error(str(error))
    if (options.directory is None) != (not options.called) or (options.directory and options.settings):
        parser.error("--directory and --called go together, without settings")
    calibrated = [setting.text for setting in settings if setting.is_calibrated]
    if calibrated and options.stats is None:
        parser.error(f"{calibrated[0]} needs --stats")
    guided = {setting.guided for setting in settings if setting.is_calibrated}
    if len(guided) == 2:
        parser.error("guided settings and others want different --stats: a run each")
    torch.set_num_threads(options.jobs)
    module, name = MODELS[options.model]
    kind = getattr(importlib.import_module(f"benchmarks.quality.{module}"), name)
    chosen = (options.sequences, options.length, options.text) if options.model == "smollm2" else ()
    model = kind(*chosen)
    if options.directory is None:
        stats = None
        if calibrated:
            stats = hessians_of(model.module, model.calibration(), options.stats, guided=guided.pop())
        rows = measured(model, settings, options.every, options.jobs, stats)
    else:
        known = None if options.stats is None else Hessians(options.stats)
        rows = iter([of_directory(model, options.directory, options.called, known)])
    for row in rows:
        print(f"{row.what}: {row.measured} ({row.note})", file=sys.stderr, flush=True)
        if options.save:
            save(row)


def save(row: Row) -> None:
    """Put a row into the results, in the place of an earlier one of its setting: a row takes minutes."""
    about = report.environment()
    about["versions"] |= {name: report.version(name) for name in PACKAGES}
    found = report.as_theme([row], about, "python -m benchmarks.quality SETTING... --model NAME --save")
    earlier = report.saved("quality").get("quality", {"rows": []})["rows"]
    found["rows"] = [other for other in earlier if other["what"] != row.what] + found["rows"]
    report.save("quality", {"quality": found})


def of_directory(model: Model, path: Path, called: str, stats: Hessians | None) -> Row:
    """The row of an encoded directory."""
    dense = {} if stats is None else model.weights()
    outputs = [0.0, 0.0]
    with xorpack.open(path) as checkpoint:
        for name, tensor in checkpoint.items() if dense else ():
            if (layer := name.removesuffix(".weight")) in dense:
                found = xorpack.decode(tensor).dequantize()
                _add(outputs, found, dense[layer], _known(stats, name)[0])
        n_bytes = sum(sum(tensor.section_bytes().values()) for tensor in checkpoint.values())
        bits = 8 * n_bytes / checkpoint.n_weights
        size = sum(file.n_bytes for file in checkpoint.files) / 1e6
    model.load(path)
    score = model.score()
    interval = f"{SHARE} %: {score.low:,.{model.digits}f} .. {score.high:,.{model.digits}f}"
    return Row(
        what=f"{model.measure}, {called}",
        samples=[score.value],
        digits=model.digits,
        note=f"{interval}; {bits:.3f} bits stored, files of {size:.1f} MB{_said(outputs)}",
    )


def measured(
    model: Model, settings: list[Setting], every: int, jobs: int, stats: Hessians | None = None
) -> Iterator[Row]:
    """A row for each setting; of those that know activations, ``jobs`` layers at a time."""
    dense = model.weights()
    chosen = [name for name in dense if every == 1 or int(name.split(".")[2]) % every == 0]
    n_weights = sum(dense[name].size for name in chosen)
    for setting in settings:
        began, n_bytes, error, energy = time.perf_counter(), 0.0, 0.0, 0.0
        outputs = [0.0, 0.0]
        with ThreadPoolExecutor(jobs if setting.is_calibrated else 1) as pool:
            results = pool.map(
                lambda name, setting=setting: setting.apply(
                    dense[name], jobs, *_known(stats, f"{name}.weight")
                ),
                chosen,
            )
            applied = dict(zip(chosen, results, strict=True))
        found = {name: weight for name, (weight, _) in applied.items()}
        untouched = copy.deepcopy(model.module.state_dict()) if setting.tune else None
        if setting.tune:
            encoded = {
                name: setting.encode(dense[name], jobs, *_known(stats, f"{name}.weight")) for name in chosen
            }
            found = model.tune(dense, encoded)
        for name in chosen:
            n_bytes += applied[name][1]
            error += float(((found[name] - dense[name]).astype(np.float64) ** 2).sum())
            energy += float((dense[name].astype(np.float64) ** 2).sum())
            _add(outputs, found[name], dense[name], _known(stats, f"{name}.weight")[0])
        seconds = time.perf_counter() - began
        model.set(found)
        score = model.score()
        bits = 8 * n_bytes / n_weights
        interval = f"{SHARE} %: {score.low:,.{model.digits}f} .. {score.high:,.{model.digits}f}"
        yield Row(
            what=f"{model.measure}, {setting.text}",
            samples=[score.value],
            digits=model.digits,
            at_most=model.goals.get(round(bits)) if setting.method == "trellis" else None,
            note=f"{interval}; {bits:.3f} bits stored, D {error / energy:.5f}{_said(outputs)}, "
            f"{seconds:.0f} s to quantize",
        )
        if untouched is not None:
            model.module.load_state_dict(untouched)


def _add(sums: list[float], found: NDArray[Any], dense: NDArray[Any], hessian: NDArray[Any] | None) -> None:
    """Add a layer's squared error of its outputs, and their squares, to ``sums``."""
    if hessian is not None:
        for k, weight in enumerate((found - dense, dense)):
            sums[k] += output_energy(weight, hessian)


def _said(sums: list[float]) -> str:
    return f", outputs' error {sums[0] / sums[1]:.5f}" if sums[1] else ""


def _known(stats: Hessians | None, name: str) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """A layer's Hessian, and what its outputs count."""
    return (None, None) if stats is None or name not in stats else (stats[name], stats.outputs(name))


if __name__ == "__main__":
    main()
