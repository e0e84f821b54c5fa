"""Text of others, names of tensors above all, as each format for people shows it.

A name may hold anything: control sequences of terminals, markup of rich, Markdown or HTML, formulas of spreadsheets.
What is shown goes through one of these functions, one per format; HTML through :func:`printable` and jinja's own
escaping, JSON through ``json.dumps``, which writes nothing but ASCII.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

FORMULA = ("=", "+", "-", "@", *map(chr, (0xFF1D, 0xFF0B, 0xFF0D, 0xFF20)))
"""What a cell begins with that spreadsheets take for a formula, and the wide forms of the four."""

_MARKDOWN = re.compile(
    r"""
    [\\`*{}\[\]|~$@]
    | (?<![^\W_])_ | _(?![^\W_])         # not within a word
    | <(?=[a-z/!?]) | &(?=[#a-z0-9])     # tags, entities
    | (?<=www)\. | :(?=//)               # what becomes a link by itself
    | ^> | ^\#(?=[\s#]) | ^[-+](?=\s) | (?<=^\d)[.)](?=\s)   # what begins a block
    """,
    re.VERBOSE | re.IGNORECASE,
)


def printable(text: str) -> str:
    r"""One line of printable characters; all others, direction marks and lone surrogates too, as in Python's literals.

    >>> printable("a\x1b[2J\n\u202eb")
    'a\\x1b[2J\\n\\u202eb'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def rich(text: str, style: str = "") -> Text:
    """Text for a terminal, by rich: no markup."""
    from rich.text import Text

    return Text(printable(text), style)


def markdown(text: str) -> str:
    r"""Text for Markdown, in a paragraph, a list or a cell of a table.

    >>> markdown("a_b|<i>[x](http://y)")
    'a_b\\|\\<i>\\[x\\](http\\://y)'
    >>> markdown("# no heading"), markdown("1. no list"), markdown("0.5"), markdown("-")
    ('\\# no heading', '1\\. no list', '0.5', '-')
    """
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def csv(text: str) -> str:
    """Text for a cell of a CSV file: what a spreadsheet would calculate begins with an apostrophe.

    >>> csv("=1+1"), csv("layer.weight")
    ("'=1+1", 'layer.weight')
    """
    text = printable(text)
    return "'" + text if text.lstrip().startswith(FORMULA) else text


def mathtext(text: str) -> str:
    """Text for a label of matplotlib, to which dollars are mathematics."""
    return printable(text).replace("$", r"\$")
