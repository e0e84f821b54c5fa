"""Kernels that are for one architecture alone, compiled past CuPy's modules of source.

Those take no architecture but the GPU's own, without the letter that some instructions ask for.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from types import ModuleType

from xorpack.cuda.sources import OPTIONS, Kernel


def cache_folder() -> Path:
    """Where CuPy keeps kernels, by its documentation."""
    return Path(os.environ.get("CUPY_CACHE_DIR") or Path.home() / ".cupy" / "kernel_cache")


def machine_code(cupy: ModuleType, kernel: Kernel) -> Path:
    """A file with the machine code of a kernel that names an architecture, compiled at the first call.

    It stands beside what CuPy keeps on disk, under a name made from text, options and the compiler's version.

    Raises:
        CompileException: CuPy's, with the compiler's log.
    """
    nvrtc, compiler = cupy.cuda.nvrtc, cupy.cuda.compiler
    options = (*OPTIONS, "-ftz=true", f"-arch={kernel.architecture}")
    text = kernel.source()
    digest = hashlib.sha256(repr((options, nvrtc.getVersion(), text)).encode()).hexdigest()
    path = cache_folder() / f"xorpack-{digest}.cubin"
    if path.exists():
        return path
    program = nvrtc.createProgram(text, f"{kernel.name}.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        code = nvrtc.getCUBIN(program)
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        raise compiler.CompileException(log, text, kernel.name, options) from error
    finally:
        nvrtc.destroyProgram(program)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(code)
    Path(temporary).replace(path)  # other processes see all of it, or nothing
    return path
