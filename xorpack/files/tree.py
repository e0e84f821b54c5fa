"""The other files of a model directory: what of them is copied, and how, so that nothing is lost unseen."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = ".git"
"""The folder of a repository, which is no part of the checkpoint that lies around it."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Tree:
    """What lies in a directory, by paths relative to it.

    Attributes:
        files: whose contents are copied; links to files outside the directory among them.
        folders: all, empty ones too; links to folders outside the directory among them.
        links: what is made anew as the same link, and where it leads: links within the directory, links to nothing.
        left_out: what is not copied, and why.
    """

    files: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    links: dict[Path, str] = field(default_factory=dict)
    left_out: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, root: Path) -> Tree:
        """What lies in ``root``, sorted by path."""
        tree = cls()
        tree._walk(root, root.resolve(), Path(), [root.resolve()])
        return tree

    def _walk(self, root: Path, real: Path, folder: Path, above: list[Path]) -> None:
        for entry in sorted(os.scandir(root / folder), key=lambda entry: entry.name):
            path = folder / entry.name
            target = (root / path).resolve()
            if entry.is_symlink() and (not target.exists() or _within(root / path, target, real)):
                self.links[path] = os.readlink(root / path)
            elif entry.is_dir():
                if path.name == REPOSITORY:
                    self.left_out[path] = "the repository that the directory is a clone of"
                elif entry.is_symlink() and any(
                    target == place or target in place.parents for place in above
                ):
                    self.left_out[path] = "a link to a folder that the directory lies in"
                else:
                    self.folders.append(path)
                    self._walk(root, real, path, [*above, target])
            elif entry.is_file():
                self.files.append(path)
            else:
                self.left_out[path] = "neither a file nor a folder"

    def remove(self, chosen: Callable[[Path], str]) -> None:
        """Leave out the files for which ``chosen`` gives a reason."""
        reasons = {path: chosen(path) for path in self.files}
        self.left_out |= {path: reason for path, reason in reasons.items() if reason}
        self.files = [path for path in self.files if not reasons[path]]


def _within(link: Path, target: Path, real: Path) -> bool:
    """Whether a link is a relative one that leads to somewhere within the directory ``real``."""
    return not os.path.isabs(os.readlink(link)) and target.is_relative_to(real) and target != real


def copy_file(source: Path, path: Path) -> None:
    """Copy a file's contents, and whether it can be executed."""
    shutil.copyfile(source, path)
    copy_mode(source, path)


def copy_mode(source: Path, path: Path) -> None:
    """Let ``path`` be executed by those who may execute ``source``."""
    if bits := source.stat().st_mode & 0o111:
        path.chmod(path.stat().st_mode | bits)


def write_instead(source: Path, path: Path, data: bytes) -> None:
    """Write a file that takes the place of ``source`` in a copy, and may be executed by the same.

    Where ``source`` is a link and was copied as one, the link goes: to write through it would change another file.
    """
    if path.is_symlink():
        _log.warning("note: left out %s: the link, in whose place a file is written", source)
        path.unlink()
    path.write_bytes(data)
    if source.is_file():
        copy_mode(source, path)
