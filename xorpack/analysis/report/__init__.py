"""What ``xorpack report`` says: the contents (:mod:`.contents`), advice, and one renderer per format."""

from collections.abc import Callable, Mapping

from xorpack import checks
from xorpack.analysis.report.contents import SORT, Options, Report
from xorpack.analysis.report.data import as_csv, as_json
from xorpack.analysis.report.html import as_html
from xorpack.analysis.report.text import as_markdown, as_text

RENDERERS: Mapping[str, Callable[[Report, Options], str]] = {
    "text": as_text,
    "json": as_json,
    "csv": as_csv,
    "markdown": as_markdown,
    "html": as_html,
}
"""Renderers by format."""


def render(
    report: Report,
    form: str = "text",
    *,
    sort: str | None = None,
    top: int | None = None,
    width: int = 100,
    colour: bool = False,
) -> str:
    """A report in one of the formats of :data:`RENDERERS`.

    Args:
        report: what :func:`xorpack.report_checkpoint` found.
        form: ``text``, ``json``, ``csv``, ``markdown`` or ``html``.
        sort: an order from :data:`xorpack.analysis.report.contents.SORT`; None for the checkpoint's own.
        top: tensors to list; None for all.
        width: columns of text.
        colour: whether the terminal that text is for shows colours.

    Raises:
        ParameterError: for any other format or order.
    """
    checks.choice("format", form, tuple(RENDERERS))
    if sort is not None:
        checks.choice("sort", sort, tuple(SORT))
    return RENDERERS[form](report, Options(sort=sort, top=top, width=width, colour=colour))


__all__ = ["RENDERERS", "Options", "Report", "render"]
