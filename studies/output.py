"""The files that a study leaves: JSON, Markdown, figures."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from studies import figures
from studies.found import Study
from studies.registry import select
from xorpack.errors import DestinationError
from xorpack.files.atomic import atomic_file
from xorpack.files.destination import check_destination
from xorpack.files.model import find

JSON_FILE, MARKDOWN_FILE = "study.json", "study.md"


def check_output(
    directory: Path, names: Sequence[str], *, overwrite: bool, model: str | Path | None = None
) -> None:
    """Raise DestinationError unless :func:`write` can write there: asked before anything is measured.

    Raises ParameterError if the directory lies in the ``model`` that is read.
    """
    if model is not None:
        inputs = list(find(Path(model)).inputs())
        for name in _files(names):
            check_destination(directory / name, overwrite=True, inputs=inputs, dry_run=True)
    if directory.exists() and not directory.is_dir():
        raise DestinationError(f"output {directory} is not a directory")
    place = directory if directory.is_dir() else directory.absolute().parent
    if not place.is_dir():
        raise DestinationError(f"output {directory}: {place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise DestinationError(f"output {directory}: no permission to write in {place}")
    taken = [name for name in _files(names) if (directory / name).exists()]
    if taken and not overwrite:
        raise DestinationError(f"output {directory} holds {taken[0]}; remove it or ask to overwrite it")
    if not directory.is_dir():  # whether it can be made, only trying tells
        _make(directory)
        directory.rmdir()


def _make(directory: Path) -> None:
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise DestinationError(f"output {directory} cannot be made: {error.strerror}") from None


def _files(names: Sequence[str]) -> list[str]:
    pictures = [f"{table.name}.{form}" for table in select(names) for form in figures.FORMATS]
    return [JSON_FILE, MARKDOWN_FILE, *pictures]


def write(study: Study, directory: Path, *, overwrite: bool = False) -> list[str]:
    """Write study.json, study.md and, if matplotlib is installed, a figure per table; their names.

    Raises:
        DestinationError: the directory cannot be written, or holds such files.
    """
    check_output(directory, list(study.outcomes), overwrite=overwrite)
    _make(directory)
    pictures = figures.available()
    document = json.dumps(study.as_dict(), indent=1) + "\n"
    texts = {JSON_FILE: document, MARKDOWN_FILE: study.markdown(figures=pictures)}
    for name, text in texts.items():
        with atomic_file(directory / name, overwrite=overwrite) as path:
            path.write_text(text, encoding="utf-8")
    written = list(texts)
    for table in study.outcomes if pictures else ():
        figure = study.figure(table)
        for form in figures.FORMATS:
            with atomic_file(directory / f"{table}.{form}", overwrite=overwrite) as path:
                figures.save(figure, path, form)
            written.append(f"{table}.{form}")
    return written
