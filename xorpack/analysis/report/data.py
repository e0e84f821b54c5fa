"""Reports for programs: JSON with everything, CSV with a line per tensor."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from xorpack import escape
from xorpack.analysis.bounds import mask_bound_error
from xorpack.analysis.report.contents import Options, Report, TensorReport
from xorpack.encoded import SECTIONS


def as_json(report: Report, options: Options) -> str:
    """Everything that is known, numbers as numbers; ``options.sort`` and ``options.top`` apply to ``tensors``."""
    document = {
        "path": report.path,
        "kind": report.kind,
        "xorpack": report.version,
        "settings": dict(report.settings),
        "n_files": report.n_files,
        "n_parameters": report.n_parameters,
        "total_bytes": report.total_bytes,
        "source_bytes": report.source_bytes,
        "parts": {part.name: part.n_bytes for part in report.parts},
        "total": report.total.as_dict(),
        "exact": None if report.exact is None else report.exact.as_dict(),
        "distortion": None if report.distortion is None else report.distortion.as_dict(),
        "outputs": None if report.outputs is None else report.outputs.as_dict(),
        "quality": None if report.quality is None else asdict(report.quality),
        "advice": list(report.advice),
        "formats": {label: [asdict(row) for row in table.rows] for label, table in report.formats.items()},
        "measured": {label: asdict(found) for label, found in report.comparison.items()},
        "becoming": [asdict(row) for row in report.becoming],
        "tensors": {tensor.name: _tensor(tensor) for tensor in options.listed(report)},
        "carried": [asdict(carried) for carried in report.carried],
    }
    return json.dumps(document, indent=2) + "\n"


def _tensor(tensor: TensorReport) -> dict[str, Any]:
    account, n = tensor.account, max(tensor.account.n_weights, 1)
    planes = tensor.planes
    return {
        "kind": tensor.kind,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "bits": tensor.bits,
        "group_size": tensor.group_size,
        "mask_codec": tensor.mask_codec,
        "network": tensor.network,
        "coded_planes": list(tensor.coded),
        **account.as_dict(),
        "exact": None if tensor.exact is None else tensor.exact.as_dict(),
        "distortion": None if tensor.distortion is None else tensor.distortion.as_dict(),
        "outputs": None if tensor.outputs is None else tensor.outputs.as_dict(),
        "mask_entropy": {
            **{model: bits / n for model, bits in asdict(tensor.mask).items()},
            "best": tensor.mask.best[0],
            "iid_error_95": mask_bound_error(account.sparsity, account.n_weights),
        },
        "value_entropy": None
        if planes is None
        else {
            "planes": list(planes.planes),
            "ones": list(planes.ones),
            "separate": planes.separate,
            "symbol": planes.symbol.value,
            "symbol_error_95": planes.symbol.error,
            "n_sampled": planes.n_sampled,
        },
    }


def as_csv(report: Report, options: Options) -> str:
    """One line per tensor: shape, sizes in bytes by part, bounds in bits per weight."""
    out = io.StringIO()
    lines = [_line(tensor) for tensor in options.listed(report)]
    writer = csv.DictWriter(out, list(lines[0]) if lines else ["tensor"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _line(tensor: TensorReport) -> Mapping[str, Any]:
    account, n = tensor.account, max(tensor.account.n_weights, 1)
    exact, found, outputs = tensor.exact, tensor.distortion, tensor.outputs
    return {
        "tensor": escape.csv(tensor.name),
        "kind": tensor.kind,
        "dtype": tensor.dtype,
        "shape": "x".join(map(str, tensor.shape)),
        "bits": tensor.bits,
        "mask_codec": tensor.mask_codec,
        "n_weights": account.n_weights,
        "n_kept": account.n_kept,
        "sparsity": f"{account.sparsity:.6f}",
        "efficiency": f"{account.efficiency:.6f}",
        "original_bytes": account.original_bytes,
        **{f"{name}_bytes": account.section_bytes[name] for name in SECTIONS},
        "bits_per_weight": f"{account.per_weight(account.n_bytes):.6f}",
        "payload_bound": f"{account.payload_bound_bits / n:.6f}",
        "mask_iid": f"{tensor.mask.iid / n:.6f}",
        "mask_rows": f"{tensor.mask.rows / n:.6f}",
        "mask_columns": f"{tensor.mask.columns / n:.6f}",
        "mask_both": f"{tensor.mask.both / n:.6f}",
        "payload_overhead": _number(account.payload_overhead),
        "mask_overhead": _number(account.mask_overhead),
        "total_overhead": _number(account.total_overhead),
        "lossless_bits_per_weight": "" if exact is None else f"{exact.per_weight(exact.n_bytes):.6f}",
        "relative_squared_error": _number(None if found is None else found.relative),
        "above_gaussian_db": _number(None if found is None else found.above_gaussian),
        "above_bound_db": _number(None if found is None else found.above_bound),
        "output_error": _number(None if outputs is None else outputs.relative),
        "nats": _number(None if outputs is None else outputs.nats),
        "gain_of_a_bit_nats_per_mb": _number(None if outputs is None else outputs.gain),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"
