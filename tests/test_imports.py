"""Modules import each other in one direction, also where only types need it."""

from __future__ import annotations

import ast
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
