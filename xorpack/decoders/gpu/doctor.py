"""What the GPU decoder finds on this machine, what will run, and the fix for what will not."""

from __future__ import annotations

import ctypes
import importlib.metadata
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from xorpack.cuda.device import MIN_COMPUTE_CAPABILITY, describe, import_cupy
from xorpack.decoders.gpu.products.tables import table_fields
from xorpack.errors import DeviceError

CUPY = {"cupy-cuda13x": 13, "cupy-cuda12x": 12, "cupy-cuda11x": 11, "cupy": None}
"""Packages that bring CuPy, and the CUDA major version each is built for."""

SHARED_ATTRIBUTE, MAJOR_ATTRIBUTE, MINOR_ATTRIBUTE, COUNT_ATTRIBUTE = 97, 75, 76, 16
"""Arguments of ``cuDeviceGetAttribute``: shared memory of a block by opt-in, compute capability, multiprocessors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: whether it is as needed, what was found, what mends it."""

    what: str
    fine: bool
    found: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All findings, and what will run."""

    findings: list[Finding] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)

    @property
    def has_gpu_decoder(self) -> bool:
        """Whether the GPU decoder can be used."""
        return all(finding.fine for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Give what ``xorpack doctor --json`` prints."""
        return asdict(self) | {"gpu_decoder": self.has_gpu_decoder}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as the driver describes it."""

    name: str
    compute_capability: tuple[int, int]
    n_multiprocessors: int
    shared_limit: int
    memory: int


def diagnose() -> Diagnosis:
    """Look at driver, GPUs, CuPy, compiler and cuBLAS, in the order in which they depend on each other."""
    driver, cuda, gpus = _driver()
    findings = [driver, *_gpu_findings(gpus)]
    package, major = _package(cuda)
    findings.append(package)
    if package.fine:
        findings.extend(_cupy(major))
    runs = {"cpu": "decode on the CPU: always"}
    usable = all(finding.fine for finding in findings)
    for number, gpu in enumerate(gpus if usable else []):
        fields = table_fields(gpu.shared_limit)
        runs[f"gpu {number}"] = (
            f"decode; matvec by tables ({fields} fields), matmul by tensor cores, and by decoding with cuBLAS"
        )
    if not usable:
        runs["gpu"] = "nothing yet: see the first fix"
    return Diagnosis(findings=findings, runs=runs)


def _driver() -> tuple[Finding, int | None, list[Gpu]]:
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    fix = "install NVIDIA's driver (in a container: run it with --gpus all)"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return Finding(what="driver", fine=False, found=f"{name} is not there", fix=fix), None, []
    status = library.cuInit(0)
    if status:
        found = f"{name} is there, but cuInit fails with error {status}"
        hint = (
            "no GPU is visible"
            if status == 100
            else "driver and kernel module may differ: reboot, or reinstall"
        )
        return Finding(what="driver", fine=False, found=found, fix=hint), None, []
    version, count = ctypes.c_int(), ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    library.cuDeviceGetCount(ctypes.byref(count))
    gpus = [_gpu(library, number) for number in range(count.value)]
    major, minor = version.value // 1000, version.value % 1000 // 10
    return Finding(what="driver", fine=True, found=f"for CUDA {major}.{minor}"), major, gpus


def _gpu(library: ctypes.CDLL, number: int) -> Gpu:
    handle, value = ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    library.cuDeviceGet(ctypes.byref(handle), number)
    library.cuDeviceGetName(name, len(name), handle)
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), handle)

    def attribute(key: int) -> int:
        library.cuDeviceGetAttribute(ctypes.byref(value), key, handle)
        return value.value

    return Gpu(
        name=name.value.decode(),
        compute_capability=(attribute(MAJOR_ATTRIBUTE), attribute(MINOR_ATTRIBUTE)),
        n_multiprocessors=attribute(COUNT_ATTRIBUTE),
        shared_limit=attribute(SHARED_ATTRIBUTE),
        memory=memory.value,
    )


def _gpu_findings(gpus: Sequence[Gpu]) -> list[Finding]:
    if not gpus:
        return [
            Finding(
                what="GPU",
                fine=False,
                found="none",
                fix="use a machine with an NVIDIA GPU of compute capability 8.0 or more; the CPU decoder works here",
            )
        ]
    findings = []
    for number, gpu in enumerate(gpus):
        major, minor = gpu.compute_capability
        fine = gpu.compute_capability >= MIN_COMPUTE_CAPABILITY
        found = (
            f"{gpu.name}, compute capability {major}.{minor}, {gpu.n_multiprocessors} multiprocessors, "
            f"{gpu.memory >> 20} MiB, {gpu.shared_limit >> 10} KiB of shared memory a block"
        )
        fix = "" if fine else "the kernels need compute capability 8.0 (Ampere) or more"
        findings.append(Finding(what=f"GPU {number}", fine=fine, found=found, fix=fix))
    return findings


def _package(cuda: int | None) -> tuple[Finding, int | None]:
    installed = {}
    for name in CUPY:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    wanted = f"pip install 'xorpack[cuda{min(cuda, 13) if cuda else 12}]'"
    if not installed:
        return Finding(what="CuPy", fine=False, found="not installed", fix=wanted), None
    found = ", ".join(f"{name} {version}" for name, version in installed.items())
    if len(installed) > 1:
        fix = f"pip uninstall {' '.join(installed)}, then {wanted}: several overwrite each other"
        return Finding(what="CuPy", fine=False, found=found, fix=fix), None
    major = CUPY[next(iter(installed))]
    if cuda is not None and major is not None and major > cuda:
        fix = f"the driver is for CUDA {cuda}: pip uninstall {found.split()[0]}, then {wanted}, or a newer driver"
        return Finding(what="CuPy", fine=False, found=found, fix=fix), major
    return Finding(what="CuPy", fine=True, found=found), major


def _cupy(major: int | None) -> list[Finding]:
    extra = f"pip install 'xorpack[cuda{major or 12}]', whose [ctk] brings NVIDIA's libraries"
    try:
        cupy = import_cupy()
    except DeviceError as error:
        return [Finding(what="import cupy", fine=False, found=describe(error), fix=extra)]
    findings = []
    try:
        version = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
        findings.append(Finding(what="NVRTC, the compiler", fine=True, found=version))
    except Exception as error:
        findings.append(Finding(what="NVRTC, the compiler", fine=False, found=describe(error), fix=extra))
    findings.append(Finding(what="CUDA headers", fine=True, found="not needed: the kernels include nothing"))
    try:
        findings.append(Finding(what="cuBLAS", fine=bool(cupy.cuda.cublas), found="can be loaded"))
    except Exception as error:
        findings.append(Finding(what="cuBLAS", fine=False, found=describe(error), fix=extra))
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        findings.append(
            Finding(what="CuPy's GPUs", fine=count > 0, found=str(count), fix="" if count else extra)
        )
    except Exception as error:
        fix = "see driver and GPU above"
        findings.append(Finding(what="CuPy's GPUs", fine=False, found=describe(error), fix=fix))
    return findings
