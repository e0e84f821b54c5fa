"""Which tensors of a checkpoint are encoded.

A pattern is a module name, or a regular expression prefixed with ``re:``. A module name matches a tensor
whose dotted name holds it as whole components, so ``encoder.layer.0``, ``attention.self`` and ``lm_head``
all work; an expression must match from the beginning of the module's or the tensor's name
(:func:`re.match`). The module of ``a.b.weight`` is ``a.b``. Vectors (biases, norms) are encoded only where a
pattern to include is their full name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xorpack.errors import ParameterError

LEFT_OUT = {
    "embedding": r".*embed.*|(.*_)?embs?|wte|wpe|shared|.*_tokens?",
    "position table": r".*_table|rel_pos\w*|relative_position\w*|pos(ition)?(al)?_enc\w*|pe",
    "head": r"(.*_)?heads?|(.*_)?classifier|score|pooler|cls|qa_outputs|predictions|(.*_)?logits?",
    "norm": r".*norm.*|ln_?\w{0,2}|bn\d*",
    "bias": r".*bias(es)?",
    "router of experts": r"(.*_)?router|(.*_expert_)?gate|gating",
    "state of a state space": r"A_logs?|conv1d",
    "scale of quantized weights": (
        r"(.*_)?(scales?(_inv|_\d)?|q?zeros?|zero_points?|g_idx|absmax|quant_map|codebooks?)|SCB"
    ),
}
"""Components of names that are left out unless patterns to include are given, by what they are."""

TOP_HEAD = r"((model|module|transformer|decoder|net)\.)*(output|out|fc|proj_out|unembed\w*)\.weight"
"""Names of heads that would be ordinary names further inside."""

_LEFT_OUT = {what: re.compile(pattern, re.IGNORECASE) for what, pattern in LEFT_OUT.items()}
_TOP_HEAD = re.compile(TOP_HEAD)


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


def abbreviated(names: Collection[str], others: Collection[str]) -> list[str]:
    """Patterns, ``*`` for a component that is a number, of which each of ``names`` matches one and none of ``others``.

    >>> abbreviated(["h.0.a", "h.1.a", "h.0.b"], ["h.1.b", "c"])
    ['h.*.a', 'h.0.b']
    """
    taken = set(map(pattern_of, others))
    found = ((pattern_of(name), name) for name in names)
    return list(dict.fromkeys(name if pattern in taken else pattern for pattern, name in found))


def pattern_of(name: str) -> str:
    """A name with ``*`` for components that are numbers."""
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def left_out(name: str, shape: Sequence[int]) -> str | None:
    """What a tensor is, if it is left out where no pattern is given; None for the matrices that are encoded.

    >>> left_out("layers.0.mlp.gate_proj.weight", (8, 8)), left_out("layers.0.mlp.gate.weight", (8, 8))
    (None, 'router of experts')
    >>> left_out("cls_token", (1, 1, 768)), left_out("time_mix", (1, 1, 768))
    ('embedding', 'vector')
    """
    for what, pattern in _LEFT_OUT.items():
        if any(pattern.fullmatch(part) for part in name.split(".")):
            return what
    if _TOP_HEAD.fullmatch(name):
        return "head"
    return "vector" if sum(size != 1 for size in shape) < 2 else None


def _includes(pattern: str, name: str, shape: Sequence[int]) -> bool:
    return matches(pattern, name) and (len(shape) >= 2 or pattern == name)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which tensors are encoded, and why the others are not.

    Attributes:
        chosen: names of the tensors to encode, in the order of the checkpoint.
        left_out: of all others, why: what they are, or which option left them out.
    """

    chosen: tuple[str, ...]
    left_out: Mapping[str, str]


def select(
    shapes: Mapping[str, Sequence[int]],
    unsuitable: Mapping[str, str],
    include: Sequence[str] | str = (),
    exclude: Sequence[str] | str = (),
    also: Sequence[str] = (),
) -> Selection:
    """The tensors to encode.

    Args:
        shapes: of all tensors of the checkpoint.
        unsuitable: of the tensors whose type cannot be encoded in the mode asked for, why.
        include: where given, only and all matrices that match one of these, embeddings and heads too.
        exclude: those that match one of these are left out after all.
        also: matrices that match one of these are taken whatever they are.

    Raises:
        ParameterError: a pattern is no text or matches nothing, or nothing is left.
    """
    include, exclude = patterns("include", include), patterns("exclude", exclude)
    for pattern in (*include, *exclude, *also):
        if not any(matches(pattern, name) for name in shapes):
            raise ParameterError(f"pattern {pattern!r} matches none of the {len(shapes)} tensors")
    for pattern in (*include, *also):
        if not any(
            name not in unsuitable and _includes(pattern, name, shape) for name, shape in shapes.items()
        ):
            raise ParameterError(
                f"pattern {pattern!r} matches only vectors, or types that cannot be encoded so"
            )
    why = {
        name: _why(name, shape, include, exclude, also) or unsuitable.get(name)
        for name, shape in shapes.items()
    }
    chosen = tuple(name for name, reason in why.items() if reason is None)
    if not chosen:
        raise ParameterError(
            f"no tensor to encode among {len(shapes)}: none is a matrix of a suitable type outside "
            "embeddings, heads, norms and biases; name some with include patterns"
        )
    return Selection(chosen, {name: reason for name, reason in why.items() if reason is not None})


def _why(
    name: str, shape: Sequence[int], include: Sequence[str], exclude: Sequence[str], also: Sequence[str]
) -> str | None:
    """Why patterns, or their absence, leave a tensor out; None if they do not."""
    if any(_includes(pattern, name, shape) for pattern in also):
        pass
    elif include:
        if not any(_includes(pattern, name, shape) for pattern in include):
            return "not among --include"
    elif what := left_out(name, shape):
        return what
    return "--exclude" if any(matches(pattern, name) for pattern in exclude) else None


def patterns(option: str, given: Any) -> tuple[str, ...]:
    """Patterns as a tuple; one text is one pattern.

    Raises:
        ParameterError: something else than texts is given.
    """
    found = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else (given,)
    for pattern in found:
        if not isinstance(pattern, str):
            raise ParameterError(f"{option} holds {pattern!r}, which is not a pattern: a text")
    return found
