"""What ``xorpack report`` says: the contents (:mod:`.contents`), advice, and one renderer per format."""

from collections.abc import Callable, Mapping
from typing import Any

from xorpack.analysis.report.contents import Options, Report
from xorpack.analysis.report.data import as_csv, as_json
from xorpack.analysis.report.html import as_html
from xorpack.analysis.report.text import as_markdown, as_text
from xorpack.errors import ParameterError

RENDERERS: Mapping[str, Callable[[Report, Options], str]] = {
    "text": as_text,
    "json": as_json,
    "csv": as_csv,
    "markdown": as_markdown,
    "html": as_html,
}
"""Renderers by format."""


def render(report: Report, form: str = "text", **options: Any) -> str:
    """A report in one of the formats of :data:`RENDERERS`.

    Args:
        report: what :func:`xorpack.report_checkpoint` found.
        form: ``text``, ``json``, ``csv``, ``markdown`` or ``html``.
        options: fields of :class:`Options`.

    Raises:
        ParameterError: for any other format.
    """
    if form not in RENDERERS:
        raise ParameterError(f"format {form!r} is not one of {', '.join(RENDERERS)}")
    return RENDERERS[form](report, Options(**options))


__all__ = ["RENDERERS", "Options", "Report", "render"]
