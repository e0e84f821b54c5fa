"""The public face: what the package exports, how its options are typed, what it stands on."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import importlib.resources
import inspect
import typing
from pathlib import Path

import pytest

import xorpack
from xorpack import checkpoint, errors

PACKAGE = Path(xorpack.__file__).parent


def is_own(value):
    return str(getattr(value, "__module__", "")).startswith("xorpack")


def test_all_is_what_there_is():
    exported = {name: getattr(xorpack, name) for name in xorpack.__all__}
    own = {name for name, value in vars(xorpack).items() if is_own(value) and not name.startswith("_")}
    assert sorted(exported) == sorted(own | {"__version__"})
    assert set(exported) <= set(dir(xorpack))


def test_every_error_can_be_caught_by_its_name_in_the_package():
    own = {name: error for name, error in vars(errors).items() if isinstance(error, type)}
    assert len(own) >= 8
    for name, error in own.items():
        assert issubclass(error, errors.XorpackError)
        assert getattr(xorpack, name) is error


def test_what_is_exported_says_what_it_is():
    for name in set(xorpack.__all__) - {"__version__"}:
        text = inspect.getdoc(getattr(xorpack, name))
        assert text, name
        assert text.partition("\n\n")[0].endswith((".", ":")), name


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (checkpoint.Settings, checkpoint.SettingsOptions),
        (checkpoint.PruneSettings, checkpoint.PruneOptions),
    ],
)
def test_keywords_are_the_fields_of_the_settings(settings, options):
    fields = {field.name for field in dataclasses.fields(settings)}
    hints = typing.get_type_hints(settings)
    assert typing.get_type_hints(options) == {name: hints[name] for name in fields}
    assert not options.__required_keys__


def test_no_public_function_takes_keywords_of_any_type():
    for name in xorpack.__all__:
        function = getattr(xorpack, name)
        if inspect.isfunction(function):
            for parameter in inspect.signature(function).parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    assert parameter.annotation.startswith("Unpack["), name
                assert parameter.annotation is not parameter.empty, name


def test_types_are_for_users_too():
    assert importlib.resources.files(xorpack).joinpath("py.typed").is_file()


def test_the_installed_version_is_that_of_the_package():
    try:
        installed = importlib.metadata.distribution("xorpack")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("xorpack is not installed")
    if Path(str(installed.locate_file("xorpack"))) != PACKAGE:
        pytest.skip("another copy of xorpack is installed")
    assert installed.version == xorpack.__version__


def test_the_package_stands_alone():
    """Neither tests, benchmarks nor studies are imported: a wheel has none of them."""
    imported = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, path
                imported.add((node.module or "").partition(".")[0])
    assert "xorpack" in imported
    assert not imported & {"tests", "benchmarks", "studies"}
    assert imported >= {"numpy", "numba", "click", "rich", "jinja2", "ml_dtypes"}
