"""The table of a report with one row for each tensor."""

from __future__ import annotations

from xorpack.analysis.accounting import Account
from xorpack.analysis.distortion import Distortion
from xorpack.analysis.output_loss import OutputLoss
from xorpack.analysis.report.contents import Options, Report, TensorReport
from xorpack.analysis.report.view import View, bound


def tensors(report: Report, options: Options) -> View:
    """One row per tensor."""
    listed = options.listed(report)
    more = len(report.tensors) - len(listed)
    order = "" if options.sort is None else f", by {options.sort}"
    maker = _encoded_row if report.kind == "encoded" else _plain_row
    return View(
        key="tensors",
        title=f"Tensors{order}, bits per weight" + (f" ({more} more: --top 0 lists all)" if more else ""),
        columns=(ENCODED_COLUMNS if report.kind == "encoded" else PLAIN_COLUMNS)
        + (() if report.distortion is None else ERROR_COLUMNS)
        + (() if report.outputs is None else OUTPUT_COLUMNS),
        rows=[
            (t.name, *maker(t), *_error_cells(report, t.distortion), *_output_cells(report, t.outputs))
            for t in listed
        ],
        total=(
            f"total of {len(report.tensors)}",
            *maker(report),
            *_error_cells(report, report.distortion),
            *_output_cells(report, report.outputs),
        ),
        note=" ".join(
            note
            for note, found in ((ERROR_NOTE, report.distortion), (OUTPUT_NOTE, report.outputs))
            if found is not None
        ),
        optional=(
            *("shape", "mask codec", "type", "scales", "E %"),
            *("mask entropy", "value entropy", "payload", "mask"),
            *(() if report.distortion is None else ("bound", "overhead", "sparsity")),
        ),
        words=("shape", "mask codec", "type"),
        names=tuple(t.name for t in report.tensors),
    )


ENCODED_COLUMNS = (
    "tensor", "shape", "sparsity", "E %", "payload", "mask", "scales", "total", "bound", "overhead", "mask codec",
)  # fmt: skip
PLAIN_COLUMNS = (
    "tensor", "shape", "type", "sparsity", "mask entropy", "value entropy", "lossless", "quantized",
)  # fmt: skip
ERROR_COLUMNS = ("D", "dB to Gauss", "dB to own")
ERROR_NOTE = (
    "D: squared error over squared weights. dB to Gauss: above 4^-R, the least D of white Gaussian weights at the "
    "total R; other weights can be below. dB to own: above Shannon's lower bound of weights distributed as these, "
    "row by row, were they independent."
)


OUTPUT_COLUMNS = ("output error", "nats", "gain/MB")
OUTPUT_NOTE = (
    "output error: squared error of what a layer gives out over its squares, on the calibration text. nats: what it "
    "costs the loss of a token, to second order. gain/MB: what a bit more for each weight would gain of that."
)


def _output_cells(report: Report, found: OutputLoss | None) -> tuple[str, ...]:
    if report.outputs is None:
        return ()
    return ("-", "-", "-") if found is None else output_cells(found)


def output_cells(found: OutputLoss) -> tuple[str, str, str]:
    """The relative error, its cost in nats, and what a bit more would gain by the megabyte.

    >>> output_cells(OutputLoss(error=1.0, energy=8.0, nats=0.25, n_kept=8_000_000))
    ('0.125', '0.25', '0.188')
    """
    nats, gain = ("-" if value is None else f"{value:.3g}" for value in (found.nats, found.gain))
    return f"{found.relative:.4g}", nats, gain


def _error_cells(report: Report, found: Distortion | None) -> tuple[str, ...]:
    if report.distortion is None:
        return ()
    return ("-", "-", "-") if found is None else error_cells(found)


def error_cells(found: Distortion) -> tuple[str, str, str]:
    """D, and dB above the Gaussian's bound and above its own.

    >>> error_cells(Distortion(error=0.5, energy=8.0, rate=1.5))
    ('0.0625', '-3.01', '-')
    """
    gauss, own = (
        "-" if above is None or not found.error else f"{above:.2f}"
        for above in (found.above_gaussian, found.above_bound)
    )
    return f"{found.relative:.4g}", gauss, own


def _shape(found: TensorReport | Report) -> str:
    return " x ".join(map(str, found.shape)) if isinstance(found, TensorReport) else ""


def _encoded_row(found: TensorReport | Report) -> tuple[str, ...]:
    a = found.account if isinstance(found, TensorReport) else found.total
    return (
        _shape(found),
        f"{a.sparsity:.4f}",
        f"{100 * a.efficiency:.3f}",
        f"{a.per_weight(a.payload_bytes):.4f}",
        f"{a.per_weight(a.section_bytes['mask']):.4f}",
        f"{a.per_weight(a.scale_bytes):.4f}",
        f"{a.per_weight(a.n_bytes):.4f}",
        f"{bound(a):.4f}",
        "-" if a.total_overhead is None else f"{a.total_overhead:.3f}",
        found.mask_codec if isinstance(found, TensorReport) else "",
    )


def _plain_row(found: TensorReport | Report) -> tuple[str, ...]:
    if isinstance(found, TensorReport):
        exact, account = found.exact or found.account, found.account if found.exact else None
        dtype = found.dtype
    else:
        exact = Account.total(t.exact or t.account for t in found.tensors)
        account, dtype = Account.total(t.account for t in found.tensors if t.exact), ""
    value = exact.payload_bound_bits / exact.n_kept if exact.n_kept else 0.0
    return (
        _shape(found),
        dtype,
        f"{exact.sparsity:.4f}",
        f"{exact.per_weight(exact.mask_bound_bits / 8):.4f}",
        f"{value:.3f}",
        f"{exact.per_weight(exact.n_bytes):.3f}",
        f"{account.per_weight(account.n_bytes):.3f}" if account and account.n_weights else "-",
    )
