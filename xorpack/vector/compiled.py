"""How kernels are compiled, and where what was compiled is kept.

numba takes a compiled kernel as long as the file of that kernel stays the same; that a function it calls has changed,
in another file, goes unseen. Here the directory of a module's compiled kernels is named after its source and those of
all that it imports from this package, so that a change of any of them begins with an empty one, and one elsewhere
compiles nothing anew. It lies where numba was told to keep things (``NUMBA_CACHE_DIR``), else in the package, else,
where that cannot be written, among the user's caches; with no such place, kernels are compiled anew in every process.
"""

from __future__ import annotations

import gc
import hashlib
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
import platformdirs
from numba.core import event
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.typing.templates import infer_global
from numba.core.untyped_passes import IRProcessing

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_PARTS: list[Any] = []

PREFIX = "kernels-"
PACKAGE = Path(__file__).parents[1]
STALE_DAYS = 30
"""Age from which on compiled kernels of other sources are removed when a new directory is made."""


_IMPORTS = re.compile(r"^from +([\w.]+) +import +(\([^)]*\)|[^\n]*)|^import +([\w.]+)", re.MULTILINE)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """:func:`numba.njit` whose cache, if ``options`` ask for one, is kept in :func:`directory`.

    No kernel is passed to another as a value: what that would take is not compiled, nor that a divisor is looked at
    before each division.
    """
    options = {"no_cfunc_wrapper": True, "error_model": "numpy", **options}

    def decorate(function: Callable[..., Any]) -> Any:
        place = directory(Path(function.__code__.co_filename)) if options.get("cache") else None
        if place is None:
            return numba.njit(**{**options, "cache": False})(function)
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(place)
        try:
            return numba.njit(**options)(function)
        except RuntimeError:  # a directory within it cannot be written
            return numba.njit(**{**options, "cache": False})(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate


class _Linked(JITCodeLibrary):  # type: ignore[misc]
    """A function that is only linked into others: it is optimized there, and no machine code is made of it alone."""

    def finalize(self) -> None:
        """See :class:`JITCodeLibrary`."""
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """See :class:`JITCodeLibrary`: there is none."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> _Linked:
        """What is asked to :meth:`set_env`."""
        return self

    def set_env(self, name: str, environment: object) -> None:
        """What the function would need to make Python objects: nothing, for it makes none."""


@register_pass(mutates_CFG=False, analysis_only=True)
class _WillBeLinked(AnalysisPass):  # type: ignore[misc]
    _name = "xorpack_will_be_linked"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Have the function compiled into a :class:`_Linked`."""
        state.library = _Linked(state.targetctx.codegen(), state.func_id.func_qualname)
        return False


class _PartCompiler(CompilerBase):  # type: ignore[misc]
    def define_pipelines(self) -> list[Any]:
        """See :class:`CompilerBase`."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_WillBeLinked, IRProcessing)
        passes.finalize()
        return [passes]


def part(function: Kernel) -> Kernel:
    """Decorator of a function that only kernels call; from Python, it is a plain function.

    It is compiled along with each kernel that calls it, without what Python would need to call it: half of the time
    that a short one takes.
    """
    return _part(function)


def inlined(function: Kernel) -> Kernel:
    """As :func:`part`, and kernels take it in, whatever its size: what has many arguments, and is called once."""
    return _part(function, forceinline=True)


def _part(function: Kernel, **options: bool) -> Kernel:
    compiled = numba.njit(
        nogil=True,
        no_cfunc_wrapper=True,
        no_cpython_wrapper=True,
        error_model="numpy",
        pipeline_class=_PartCompiler,
        **options,
    )(function)
    infer_global(function, numba.types.Dispatcher(compiled))
    _PARTS.append(compiled)  # of which numba's types hold weak references
    return function


class _WithoutCollections(event.Listener):  # type: ignore[misc]
    """Holds Python's garbage collector back while a kernel is compiled: a tenth of the time.

    Compiling makes millions of objects that stay until it ends. It happens under a lock of numba's.
    """

    def __init__(self) -> None:
        self.depth = 0
        self.collects = False

    def on_start(self, event: Any) -> None:
        """See :class:`event.Listener`."""
        if self.depth == 0:
            self.collects = gc.isenabled()
            gc.disable()
        self.depth += 1

    def on_end(self, event: Any) -> None:
        """See :class:`event.Listener`."""
        self.depth -= 1
        if self.depth == 0 and self.collects:
            gc.enable()


event.register("numba:compile", _WithoutCollections())


@cache
def directory(module: Path) -> Path | None:
    """Where compiled kernels of ``module`` are kept: a directory that can be written; None if there is none."""
    try:
        name = PREFIX + source_hash(module, PACKAGE)
    except OSError:  # imported from an archive
        return None
    for parent in _places():
        place = parent / name
        try:
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                _remove_stale(parent)
            tempfile.TemporaryFile(dir=place).close()
        except OSError:
            continue
        return place
    return None


def source_hash(module: Path, package: Path) -> str:
    """Hash of ``module``, of what it imports from ``package``, what that imports, and whether indices are checked."""
    texts: dict[Path, bytes] = {}
    waiting = [module]
    while waiting:
        path = waiting.pop()
        if path not in texts:
            texts[path] = path.read_bytes()
            waiting += _imported(path, package)
    digest = hashlib.sha256(f"{numba.__version__} {numba.config.BOUNDSCHECK}".encode())
    for path in sorted(texts):
        digest.update(f"\0{path.name}\0".encode() + texts[path])
    return digest.hexdigest()[:16]


@cache
def _imported(module: Path, package: Path) -> tuple[Path, ...]:
    """Modules of ``package`` that ``module`` imports at its top."""
    found: list[Path] = []
    for origin, names, plain in _IMPORTS.findall(module.read_text("utf-8")):
        parts = (origin or plain).split(".")
        if parts[0] != package.name:
            continue
        place = package.parent.joinpath(*parts)
        inner = [place / f"{name}.py" for name in re.findall(r"\w+", names)]
        modules = [path for path in inner if path.is_file()]
        found += modules or [place / "__init__.py" if place.is_dir() else place.with_suffix(".py")]
    return tuple(found)


def _places() -> Iterator[Path]:
    if numba.config.CACHE_DIR:
        yield Path(numba.config.CACHE_DIR)
        return
    if PACKAGE.is_dir():
        yield PACKAGE / "__pycache__"
    try:
        yield Path(platformdirs.user_cache_dir("xorpack"))
    except (OSError, RuntimeError):  # nobody's home
        return


def _remove_stale(parent: Path) -> None:
    for other in parent.glob(f"{PREFIX}*"):
        if time.time() - other.stat().st_mtime > STALE_DAYS * 86400:
            shutil.rmtree(other, ignore_errors=True)
