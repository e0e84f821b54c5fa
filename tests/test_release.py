"""A release is made only of what agrees: version, changelog, tag, a clean clone."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

import xorpack

ROOT = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)


def git(root, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone that is ready; what is built is written down."""
    for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
        monkeypatch.setenv(f"{name}_NAME", "n")
        monkeypatch.setenv(f"{name}_EMAIL", "e@example.org")
    (tmp_path / "xorpack").mkdir()
    (tmp_path / "xorpack" / "_version.py").write_text('"""V."""\n\n__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2027-01-31)\n\n- It is.\n\n## 1.2.2\n")
    (tmp_path / ".gitignore").write_text("dist/\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "All")

    def run(root, *arguments):
        if "build" in arguments:
            (root / "dist").mkdir()
            for name in ("xorpack-1.2.3-py3-none-any.whl", "xorpack-1.2.3.tar.gz"):
                (root / "dist" / name).touch()
        if "twine" in arguments:
            (root / "dist" / "checked").touch()

    monkeypatch.setattr(release, "_run", run)
    return tmp_path


def tags(root):
    return subprocess.run(["git", "tag"], cwd=root, capture_output=True, text=True, check=True).stdout.split()


def test_what_agrees_is_tagged(clone, capsys):
    release.main(clone)
    assert tags(clone) == ["v1.2.3"]
    assert (clone / "dist" / "checked").exists()
    assert "tagged v1.2.3" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"the tag v1\.2\.3 exists already"):
        release.main(clone)


WRONG = [
    ("xorpack/_version.py", '__version__ = "1.2.3.dev0"\n', r"1\.2\.3\.dev0, which is not the version of a release"),
    ("xorpack/_version.py", "version = 1\n", "has no line __version__"),
    ("xorpack/_version.py", '__version__ = "1.2.4"\n', r"begins with '1\.2\.3 \(2027-01-31\)', not with '1\.2\.4"),
    ("CHANGELOG.md", "# Changelog\n\n## 1.2.3 (unreleased)\n", r"begins with '1\.2\.3 \(unreleased\)'"),
    ("CHANGELOG.md", "# Changelog\n", "begins with ''"),
    ("more.txt", "text", r"not everything is committed: \?\? more\.txt"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text", "message"), WRONG)
def test_what_does_not_agree_is_not(path, text, message, clone):
    (clone / path).write_text(text)
    if path != "more.txt":
        git(clone, "commit", "-qam", "Another")
    with pytest.raises(SystemExit, match=message):
        release.main(clone)
    assert not tags(clone)
    assert not (clone / "dist").exists()


def test_a_file_of_another_version_stops_it(clone, monkeypatch):
    def build_another(root, *_):
        (root / "dist").mkdir()
        (root / "dist" / "xorpack-1.2.2.tar.gz").touch()

    monkeypatch.setattr(release, "_run", build_another)
    with pytest.raises(SystemExit, match=r"dist/ holds xorpack-1\.2\.2\.tar\.gz"):
        release.main(clone)
    assert not tags(clone)


def test_the_changelog_is_of_this_version():
    """Between releases the version ends in .dev0, and the first section is not dated."""
    (top,) = re.findall(r"\A# Changelog\n\n## (.*)\n", (ROOT / "CHANGELOG.md").read_text())
    version = xorpack.__version__
    if version.endswith(".dev0"):
        assert top == f"{version.removesuffix('.dev0')} (unreleased)"
    else:
        assert re.fullmatch(re.escape(version) + r" \(\d{4}-\d\d-\d\d\)", top)
