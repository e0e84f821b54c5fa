"""Make a release: ``make release``. See CONTRIBUTING.md, section Releases.

The version stands in ``xorpack/_version.py``. CHANGELOG.md's first section must be of that version, with a date; the
clone clean; the tag new. Then wheel and sdist are built and checked, and the commit is tagged. Nothing leaves the
machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def version_of(root: Path) -> str:
    """The version that the package has.

    Raises:
        SystemExit: it is not one of a release, as 1.2.3.
    """
    text = (root / "xorpack" / "_version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.*)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit("xorpack/_version.py has no line __version__ = ...")
    if not re.fullmatch(r"\d+\.\d+\.\d+", found[1]):
        raise SystemExit(f"xorpack/_version.py has {found[1]}, which is not the version of a release")
    return found[1]


def check_changelog(root: Path, version: str) -> None:
    """Raise SystemExit unless the first section of CHANGELOG.md is the version's, with a date."""
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(r"^## (.*)$", text, re.MULTILINE)
    top = "" if found is None else found[1]
    if not re.fullmatch(re.escape(version) + r" \(\d{4}-\d\d-\d\d\)", top):
        raise SystemExit(f"CHANGELOG.md begins with {top!r}, not with '{version} (YYYY-MM-DD)'")


def check_clone(root: Path, tag: str) -> None:
    """Raise SystemExit if the clone has changes that are not committed, or has the tag already."""
    if changes := _git(root, "status", "--porcelain"):
        raise SystemExit(f"not everything is committed: {changes.splitlines()[0].strip()}")
    if _git(root, "tag", "--list", tag):
        raise SystemExit(f"the tag {tag} exists already")


def build(root: Path, version: str) -> None:
    """Build wheel and sdist into ``dist/`` and check them.

    Raises:
        SystemExit: a file has another name than its version gives it.
        subprocess.CalledProcessError: building or twine failed, and said why.
    """
    shutil.rmtree(root / "dist", ignore_errors=True)
    _run(root, "-m", "build", "--quiet")
    names = sorted(path.name for path in (root / "dist").iterdir())
    if names != [f"xorpack-{version}-py3-none-any.whl", f"xorpack-{version}.tar.gz"]:
        raise SystemExit(f"dist/ holds {', '.join(names)}")
    _run(root, "-m", "twine", "check", "--strict", *(f"dist/{name}" for name in names))


def main(root: Path = ROOT) -> None:
    """Check, build, check again, tag."""
    version = version_of(root)
    tag = f"v{version}"
    check_changelog(root, version)
    check_clone(root, tag)
    build(root, version)
    _git(root, "tag", "--annotate", tag, "--message", f"xorpack {version}")
    print(
        f"tagged {tag}; dist/ holds wheel and sdist. To publish: git push origin {tag}; twine upload dist/*"
    )


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def _run(root: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=root, check=True)


if __name__ == "__main__":
    main()
