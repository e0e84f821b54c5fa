"""Which tensors of a checkpoint are encoded.

A pattern is a module name, or a regular expression prefixed with ``re:``. A module name matches a tensor
whose dotted name holds it as whole components, so ``encoder.layer.0``, ``attention.self`` and ``lm_head``
all work; an expression must match from the beginning of the module's or the tensor's name
(:func:`re.match`). The module of ``a.b.weight`` is ``a.b``. Vectors (biases, norms) are encoded only where a
pattern to include is their full name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from xorpack.errors import ParameterError

LEFT_OUT = re.compile(
    r"""
    .*embed.* | wte | wpe | shared          # embeddings
    | (.*_)?heads? | classifier | score | pooler | cls | qa_outputs | predictions   # heads
    | .*norm.* | ln_?\w{0,2} | bn\d*        # norms
    | .*bias                                # biases
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Components of names that are left out unless patterns to include are given."""


def module_name(name: str) -> str:
    """The module that a tensor belongs to: its name without the last component."""
    return name.rpartition(".")[0] or name


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern matches a tensor's name.

    >>> matches("attention.self", "layer.0.attention.self.query.weight")
    True
    >>> matches("layer.1", "layer.11.query.weight"), matches("re:layer.1", "layer.11.query.weight")
    (False, True)
    """
    if pattern.startswith("re:"):
        try:
            expression = re.compile(pattern[3:])
        except re.error as error:
            raise ParameterError(f"pattern {pattern!r} is not a regular expression: {error}") from None
        return bool(expression.match(name) or expression.match(module_name(name)))
    return f".{pattern}." in f".{name}."


def by_default(name: str, shape: Sequence[int]) -> bool:
    """Whether a tensor is encoded where no pattern is given: matrices but embeddings, heads, norms, biases."""
    return len(shape) >= 2 and not any(LEFT_OUT.fullmatch(part) for part in name.split("."))


def _includes(pattern: str, name: str, shape: Sequence[int]) -> bool:
    return matches(pattern, name) and (len(shape) >= 2 or pattern == name)


def select(
    shapes: Mapping[str, Sequence[int]],
    suitable: Mapping[str, bool],
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> list[str]:
    """Names of the tensors to encode, in the order of ``shapes``.

    Args:
        shapes: all tensors of the checkpoint.
        suitable: whether a tensor's type can be encoded in the mode asked for.
        include: where given, only and all matrices that match one of these, embeddings and heads too.
        exclude: those that match one of these are left out after all.

    Raises:
        ParameterError: a pattern matches nothing, or nothing is left.
    """
    for pattern in (*include, *exclude):
        if not any(matches(pattern, name) for name in shapes):
            raise ParameterError(f"pattern {pattern!r} matches none of the {len(shapes)} tensors")
    for pattern in include:
        if not any(suitable[name] and _includes(pattern, name, shape) for name, shape in shapes.items()):
            raise ParameterError(
                f"pattern {pattern!r} matches only vectors, or types that cannot be encoded so"
            )
    chosen = []
    for name, shape in shapes.items():
        wanted = any(_includes(p, name, shape) for p in include) if include else by_default(name, shape)
        if wanted and suitable[name] and not any(matches(p, name) for p in exclude):
            chosen.append(name)
    if not chosen:
        raise ParameterError(
            f"no tensor to encode among {len(shapes)}: none is a matrix of a suitable type outside "
            "embeddings, heads, norms and biases; name some with include patterns"
        )
    return chosen
