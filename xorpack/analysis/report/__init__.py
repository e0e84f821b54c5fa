"""What ``xorpack report`` says: the contents (:mod:`.contents`), advice, and one renderer per format."""

from collections.abc import Callable, Mapping

from xorpack.analysis.report.contents import Options, Report
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

__all__ = ["RENDERERS", "Options", "Report"]
