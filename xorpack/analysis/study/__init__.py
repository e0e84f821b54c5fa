"""The field's tables on synthetic and real weights, beside the bound.

One module per table (:data:`TABLES`, closed). A table is a list of cells; a cell is measured from its parameters
alone, seeds included, so it can be kept and taken up again (:mod:`xorpack.analysis.study.cache`).

>>> from xorpack.analysis import study
>>> found = study.run(["alexnet"], quick=True, seeds=1)                            # doctest: +SKIP
>>> print(found.markdown())                                                        # doctest: +SKIP
"""

from xorpack.analysis.study import density, figures, render
from xorpack.analysis.study.found import Study
from xorpack.analysis.study.output import check_output, write
from xorpack.analysis.study.registry import TABLES, select
from xorpack.analysis.study.run import run
from xorpack.analysis.study.table import Cell, Grid, Outcome, Scope, Table
from xorpack.analysis.study.weights import Weights, example_weight, installed_model

__all__ = [
    "TABLES",
    "Cell",
    "Grid",
    "Outcome",
    "Scope",
    "Study",
    "Table",
    "Weights",
    "check_output",
    "density",
    "example_weight",
    "figures",
    "installed_model",
    "render",
    "run",
    "select",
    "write",
]
