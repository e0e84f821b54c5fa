"""Modules import each other in one direction, also where only types need it."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import xorpack

ROOT = Path(xorpack.__file__).parent


def graph(root: Path = ROOT) -> dict[str, set[str]]:
    """Modules and packages by name, and what each imports by name, in functions too.

    That a module imports the packages it stands in goes without saying, and is left out.
    """
    paths = {path: path.relative_to(root.parent).with_suffix("").parts for path in root.rglob("*.py")}
    modules = {".".join(parts).removesuffix(".__init__"): path for path, parts in paths.items()}
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found[name].add(inner if inner in modules else node.module)
            elif isinstance(node, ast.Import):
                found[name].update(alias.name for alias in node.names)
        found[name] &= set(modules)
    return found


def test_no_module_imports_one_that_imports_it() -> None:
    list(TopologicalSorter(graph()).static_order())


def test_a_circle_is_seen(tmp_path: Path) -> None:
    root = tmp_path / "house"
    root.mkdir()
    (root / "a.py").write_text("def f():\n    from house.b import g\n")
    (root / "b.py").write_text("from house import a\n")
    with pytest.raises(CycleError, match="nodes are in a cycle"):
        list(TopologicalSorter(graph(root)).static_order())


def test_a_name_stands_for_one_class() -> None:
    modules = defaultdict(list)
    for path in sorted(ROOT.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(path.relative_to(ROOT).as_posix())
    assert {name: found for name, found in modules.items() if len(found) > 1} == {}


VECTOR = {"xorpack.vector.atomic", "xorpack.vector.outlined"}
"""What kernels are made of, in modules of other names: what numba types."""


def compiled(root: Path) -> set[str]:
    """Modules with functions that numba compiles."""
    found = set()
    for path in root.rglob("*.py"):
        if re.search(r"^@(?:njit|intrinsic|part)\b", path.read_text(), re.MULTILINE):
            found.add(".".join(path.relative_to(root.parent).with_suffix("").parts))
    return found


def test_kernels_stand_in_modules_of_their_own_and_all_others_are_typed() -> None:
    """The list of modules that mypy lets go without types is the list of those that hold kernels."""
    found = compiled(ROOT)
    assert len(found) > 20
    assert {name for name in found if not name.endswith("_kernels")} == VECTOR
    settings = ROOT.parent / "pyproject.toml"
    if not settings.is_file():
        pytest.skip("not in a checkout")
    overrides = tomllib.loads(settings.read_text())["tool"]["mypy"]["overrides"]
    exempt = [
        module for each in overrides if "ignore_missing_imports" not in each for module in each["module"]
    ]
    assert sorted(exempt) == sorted(found)
