"""Checks that arguments share: whole numbers, fractions, choices. Each raises a ParameterError naming the argument."""

from __future__ import annotations

import math
import operator
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from numbers import Real
from typing import Any

from xorpack.errors import ParameterError

LARGEST = (1 << 48) - 1
"""No number of weights, columns or threads is larger."""


def whole(name: str, value: Any, least: int = 0, most: int = LARGEST) -> int:
    """``value`` as an int from ``least`` to ``most``; True and 2.0 are none."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ParameterError(f"{name} = {value!r} is not a whole number") from None
    if number < least and most == LARGEST:
        raise ParameterError(f"{name} = {number} is " + ("negative" if least == 0 else f"less than {least}"))
    if not least <= number <= most:
        raise ParameterError(f"{name} = {number} is outside {least}..{most}")
    return number


def real(name: str, value: Any) -> float:
    """``value`` as a float; NaN, infinity, True and text are none."""
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(float(value)):
        raise ParameterError(f"{name} = {value!r} is not a finite number")
    return float(value)


def positive(name: str, value: Any) -> float:
    """``value`` as a float above 0."""
    if not real(name, value) > 0:
        raise ParameterError(f"{name} = {value!r} is not positive")
    return float(value)


def sparsity(value: Any, name: str = "sparsity") -> float:
    """``value`` as a float in [0, 1)."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < 1:
        raise ParameterError(f"{name} = {value!r} is outside [0, 1)")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """``value``, if it is True or False."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name} = {value!r} is not True or False")
    return value


def choice(name: str, value: Any, known: Collection[str]) -> str:
    """``value``, if it is one of ``known``."""
    if not isinstance(value, str) or value not in known:
        raise ParameterError(f"{name} {value!r} is not one of {', '.join(known)}")
    return value


def pair(name: str, value: Any) -> tuple[int, int]:
    """``value``, if it is a tuple of two whole numbers."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise ParameterError(f"{name} {value!r} is not two numbers, as (2, 4)")
    return whole(name, value[0]), whole(name, value[1])


def installed(*packages: str, extra: str) -> None:
    """Raise ParameterError unless all packages are there; ``extra``: of xorpack, that brings them."""
    for package in packages:
        if find_spec(package) is None:
            raise ParameterError(f'{package} is missing: pip install "xorpack[{extra}]"')


def quantized_by_xorpack(config: Mapping[str, Any]) -> None:
    """Raise ParameterError if a directory's ``quantization_config`` holds that of a tool that quantized it before."""
    if found := config.get("original"):
        method = found.get("quant_method") if isinstance(found, Mapping) else None
        raise ParameterError(
            f"config.json says that {method or 'another tool'} quantized the model before it was encoded: "
            "`xorpack decode DIRECTORY OUT` gives back the very files, for that tool to load"
        )
