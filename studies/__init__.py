"""The field's tables on synthetic and real weights, beside the bound.

One module per table (:data:`TABLES`, closed). A table is a list of cells; a cell is measured from its parameters
alone, seeds included, so it can be kept and taken up again (:mod:`studies.cache`).

>>> import studies
>>> found = studies.run(["alexnet"], quick=True, seeds=1)                          # doctest: +SKIP
>>> print(found.markdown())                                                        # doctest: +SKIP
"""

from studies import density, figures, render
from studies.found import Study
from studies.output import check_output, write
from studies.registry import TABLES, select
from studies.run import run
from studies.table import Cell, Grid, Outcome, Scope, Table
from studies.weights import Weights, example_weight, installed_model

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
