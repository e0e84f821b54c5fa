"""Reports as one self-contained HTML page."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from xorpack import escape
from xorpack.analysis.report import plots
from xorpack.analysis.report.contents import Options, Report
from xorpack.analysis.report.text import ADVICE, SUMS
from xorpack.analysis.report.views import headline, views

if TYPE_CHECKING:
    from jinja2 import Template

NO_PLOTS = "No plots: matplotlib is not installed (pip install 'xorpack[report]')."


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True,
        finalize=lambda value: escape.printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.from_string(files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8"))


def as_html(report: Report, options: Options) -> str:
    """A page that needs no network: tables, the tensors' one sortable, and plots where matplotlib is installed."""
    drawn = plots.available()
    return _template().render(
        report=report,
        headline=list(headline(report)),
        advice_title=ADVICE,
        views=list(views(report, options)),
        sums=SUMS,
        figures=list(plots.figures(report)) if drawn else [],
        note="" if drawn else NO_PLOTS,
    )
