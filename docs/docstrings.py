"""Docstrings as Markdown: mkdocstrings asks for it, the code is written with Sphinx roles and reST's tables.

Only what the code uses is known: roles, ``::`` before a literal block, simple tables, doctests, items of several names.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|data|func|meth|mod|attr):`~?(?:([^`<]+?) <)?([^`>]+)>?`")
_NAMES = re.compile(r"(    +)(\w+(?:, \w+)+): (.*)")
_RULE = re.compile(r"=+( +=+)+")


class Markdown(griffe.Extension):
    """Rewrites the docstrings of a package once it is loaded, before they are parsed."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """See griffe."""
        todo: list[griffe.Object] = [pkg]
        while todo:
            found = todo.pop()
            if found.docstring is not None:
                found.docstring.value = as_markdown(found.docstring.value, found)
            todo += [member for member in found.members.values() if isinstance(member, griffe.Object)]


def as_markdown(text: str, scope: griffe.Object) -> str:
    """The same text in Markdown; names are looked up from ``scope``."""
    lines = _doctests(_names(_tables(text.splitlines())))
    lines = [re.sub(r"(?<=\S)::$", ":", line) for line in lines]
    return _ROLE.sub(lambda found: _reference(found[1], found[2], scope), "\n".join(lines))


def _reference(label: str | None, name: str, scope: griffe.Object) -> str:
    try:
        target = name if name.startswith("xorpack.") else scope.resolve(name)
    except griffe.NameResolutionError:
        target = name
    shown = label or f"<code>{name}</code>"
    return f'<autoref identifier="{target}" optional>{shown}</autoref>'


def _tables(lines: list[str]) -> list[str]:
    """Simple tables, whose columns are where their rules are; a row without a first cell goes on."""
    done: list[str] = []
    while lines:
        if not _RULE.fullmatch(lines[0].strip()) or _end(lines) is None:
            done.append(lines.pop(0))
            continue
        end = _end(lines)
        table, lines = lines[: end + 1], lines[end + 1 :]
        starts = [found.start() for found in re.finditer(r"=+", table[0])]
        rows: list[list[str]] = []
        for line in table[1:]:
            if _RULE.fullmatch(line.strip()):
                continue
            cells = [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
            if rows and not cells[0]:
                rows[-1] = [f"{old} {new}".strip() for old, new in zip(rows[-1], cells, strict=True)]
            else:
                rows.append(cells)
        rows.insert(1, ["---"] * len(starts))
        done += [
            "",
            *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
            "",
        ]
    return done


def _end(lines: list[str]) -> int | None:
    """The place of a table's last rule: the third, or the second where it has no heading."""
    rules = [k for k, line in enumerate(lines[:60]) if _RULE.fullmatch(line.strip())]
    return rules[2] if len(rules) > 2 else None


def _doctests(lines: list[str]) -> list[str]:
    """Doctests of the text in fences; those of a section are indented, and griffe knows them."""
    done, inside = [], False
    for line in lines:
        if inside and not line.strip():
            done.append("```")
            inside = False
        elif not inside and line.startswith(">>>"):
            done.append("```pycon")
            inside = True
        done.append(re.sub(r"\s+# doctest:.*", "", line))
    return [*done, "```"] if inside else done


def _names(lines: list[str]) -> list[str]:
    """``a, b: text`` of a section as two items."""
    done: list[str] = []
    while lines:
        found = _NAMES.fullmatch(lines[0])
        rest = 1
        if found is None:
            done.append(lines.pop(0))
            continue
        while rest < len(lines) and lines[rest].startswith(found[1] + " "):
            rest += 1
        for name in found[2].split(", "):
            done += [f"{found[1]}{name}: {found[3]}", *lines[1:rest]]
        lines = lines[rest:]
    return done
