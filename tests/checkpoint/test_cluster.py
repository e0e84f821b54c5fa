"""Workers of a dask cluster, real processes: the same bytes, whoever dies; what is not there is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from samples import pruned

import xorpack
from xorpack.analysis.report import render
from xorpack.checkpoint import cluster
from xorpack.checkpoint.report import report_checkpoint
from xorpack.cli import main
from xorpack.errors import CorruptError, DataError, MismatchError, ParameterError, WorkerError

dask = pytest.importorskip("dask", reason="needs dask (extra dask)")
distributed = pytest.importorskip("distributed", reason="needs distributed (extra dask)")
pytestmark = pytest.mark.filterwarnings("default")  # its own are not ours

OPTIONS: dict[str, Any] = {"sparsity": 0.8, "scope": "global"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cluster") / "m"
    root.mkdir()
    for i in range(2):
        held = {f"layers.{i}.{k}.weight": pruned((96, 128), 0.5, seed=10 * i + k) for k in range(4)}
        save_file(
            held | {f"layers.{i}.bias": pruned((9,), 0)}, root / f"model-0000{i + 1}-of-00002.safetensors"
        )
    (root / "config.json").write_text(json.dumps({}))
    return root


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A scheduler in this process, and two workers with processes of their own."""
    with (
        dask.config.set(cluster.RESTART),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", memory_limit=0
        ) as local,
    ):
        yield local


def contents(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(root.iterdir())}


def test_the_bytes_are_those_of_one_process_though_a_worker_is_killed(
    source: Path, tmp_path: Path, local: Any
) -> None:
    def die_in_the_middle() -> int:
        """The next tensor that this worker encodes is its last."""
        from xorpack.checkpoint import shards

        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        shards.encode_tensor = die  # type: ignore[assignment]
        return os.getpid()

    with distributed.Client(local) as client:
        client.wait_for_workers(2)
        victim = sorted(client.scheduler_info()["workers"])[0]
        pid = client.run(die_in_the_middle, workers=[victim])[victim]
    done = []
    report = xorpack.encode_checkpoint(
        source,
        tmp_path / "x",
        scheduler=local.scheduler_address,
        progress=lambda name, *_: done.append(name),
        **OPTIONS,
    )
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    again = xorpack.encode_checkpoint(source, tmp_path / "y", **OPTIONS)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")
    assert report.accounts == again.accounts
    assert sorted(done) == sorted(again.accounts)
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


@pytest.fixture(scope="module")
def encoded(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("encoded") / "x"
    xorpack.encode_checkpoint(source, target, **OPTIONS)
    return target


def kill_one(local: Any, module: str, function: str) -> int:
    """Let the next call of a function that one of the workers makes be its last; the worker's process."""

    def die_in_the_middle() -> int:
        import importlib

        def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        setattr(importlib.import_module(module), function, die)
        return os.getpid()

    with distributed.Client(local) as client:
        client.wait_for_workers(2)
        victim = sorted(client.scheduler_info()["workers"])[0]
        return int(client.run(die_in_the_middle, workers=[victim])[victim])


@pytest.mark.parametrize("lossless", [False, True])
def test_decoding_gives_the_bytes_of_one_process_though_a_worker_is_killed(
    source: Path, tmp_path: Path, local: Any, lossless: bool
) -> None:
    options = {"lossless": True} if lossless else OPTIONS
    xorpack.encode_checkpoint(source, tmp_path / "x", **options)
    pid = kill_one(local, "xorpack.checkpoint.decode", "decode_checked")
    done: list[str] = []
    n_bytes = xorpack.decode_checkpoint(
        tmp_path / "x",
        tmp_path / "y",
        scheduler=local.scheduler_address,
        progress=lambda name, *_: done.append(name),
    )
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert n_bytes == xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "z")
    assert contents(tmp_path / "y") == contents(tmp_path / "z")
    assert not lossless or contents(tmp_path / "y") == contents(source)
    assert done == [f"layers.{i}.{k}.weight" for i in range(2) for k in range(4)]
    assert sorted(os.listdir(tmp_path)) == ["x", "y", "z"]


def test_verifying_and_reporting_say_what_one_process_says_though_a_worker_is_killed(
    source: Path, encoded: Path, local: Any
) -> None:
    how = {"scheduler": local.scheduler_address}
    kill_one(local, "xorpack.checkpoint.verify", "decode_checked")
    assert xorpack.verify_checkpoint(encoded, against=source, **how) == xorpack.verify_checkpoint(
        encoded, against=source
    )
    assert xorpack.verify_checkpoint(encoded, **how).n_tensors == 8
    kill_one(local, "xorpack.checkpoint.report.encoded", "mask_counts")
    here = render(report_checkpoint(encoded, against=source, n_maps=1), "json")
    assert render(report_checkpoint(encoded, against=source, n_maps=1, **how), "json") == here
    assert render(report_checkpoint(encoded, against=source, n_maps=1, jobs=2), "json") == here
    here = render(report_checkpoint(source), "json")
    assert render(report_checkpoint(source, **how), "json") == here


def test_errors_of_workers_are_those_of_one_process(
    source: Path, encoded: Path, tmp_path: Path, local: Any
) -> None:
    how = {"scheduler": local.scheduler_address}
    (tmp_path / "x").mkdir()
    for path in encoded.iterdir():
        (tmp_path / "x" / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "x" / "model-00002-of-00002.safetensors"
    stored = xorpack.open(tmp_path / "x").files[1].stored["layers.1.2.weight.xor_code"]
    data = bytearray(shard.read_bytes())
    data[stored._begin + 5] ^= 4
    shard.write_bytes(data)
    said = []
    for more in (how, {}):
        for call in (
            lambda more=more: xorpack.verify_checkpoint(tmp_path / "x", **more),
            lambda more=more: xorpack.decode_checkpoint(tmp_path / "x", tmp_path / "y", **more),
        ):
            with pytest.raises(CorruptError, match=r"model-00002.*tensor 'layers\.1\.2\.weight'") as error:
                call()
            said.append(str(error.value))
    assert len(set(said)) == 1
    assert os.listdir(tmp_path) == ["x"]
    save_file({"a.weight": pruned((96, 128), 0.5)}, tmp_path / "other.safetensors")
    with pytest.raises(MismatchError, match="only one of"):
        xorpack.verify_checkpoint(encoded, against=tmp_path / "other.safetensors", **how)


def test_what_fails_on_a_worker_alone_names_tensor_and_worker(
    encoded: Path, tmp_path: Path, local: Any
) -> None:
    def fill_disks() -> None:
        from xorpack.checkpoint import decode

        def fill(*_: object) -> None:
            raise OSError(28, "No space left on device")

        decode.fill = fill

    with distributed.Client(local) as client:
        client.wait_for_workers(2)
        client.run(fill_disks)
    with pytest.raises(WorkerError, match=r"tensor 'layers.*': worker tcp://\S+: .*No space left"):
        xorpack.decode_checkpoint(encoded, tmp_path / "y", scheduler=local.scheduler_address)
    assert os.listdir(tmp_path) == []
    with distributed.Client(local) as client:
        client.restart()


def test_the_command_line_takes_a_scheduler_and_urls(
    source: Path,
    encoded: Path,
    tmp_path: Path,
    local: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    xorpack.decode_checkpoint(encoded, tmp_path / "z")
    for arguments in (
        ["verify", f"file://{encoded}", "--against", f"file://{source}"],
        ["report", f"file://{encoded}"],
        ["decode", f"file://{encoded}", f"file://{tmp_path}/y"],
    ):
        said = []
        for more in (["--scheduler", local.scheduler_address], []):
            monkeypatch.setattr("sys.argv", ["xorpack", *arguments, *more])
            with pytest.raises(SystemExit) as ended:
                main()
            assert ended.value.code == 0
            said.append(capsys.readouterr().out)
            if arguments[0] == "decode":
                assert contents(tmp_path / "y") == contents(tmp_path / "z")
                shutil.rmtree(tmp_path / "y")
        assert said[0] == said[1]
        assert f"file://{encoded}" in said[0] or arguments[0] == "decode"


def test_workers_read_urls_themselves(source: Path, tmp_path: Path, local: Any) -> None:
    address = local.scheduler_address
    xorpack.encode_checkpoint(f"file://{source}", f"file://{tmp_path}/x", scheduler=address, **OPTIONS)
    xorpack.encode_checkpoint(source, tmp_path / "y", **OPTIONS)
    assert contents(tmp_path / "x") == contents(tmp_path / "y")


def test_an_error_of_a_tensor_is_what_it_is_in_one_process(tmp_path: Path, local: Any) -> None:
    array = pruned((8, 64), 0.5)
    array[3, 5] = np.nan
    save_file({"a.weight": pruned((64, 64), 0.5), "b.weight": array}, tmp_path / "m.safetensors")
    with pytest.raises(DataError, match=r"'b\.weight'.*nan"):
        xorpack.encode_checkpoint(
            tmp_path / "m.safetensors", tmp_path / "x.safetensors", scheduler=local.scheduler_address
        )
    assert os.listdir(tmp_path) == ["m.safetensors"]


def test_a_tensor_that_workers_die_of_is_named_and_what_is_finished_stays(
    source: Path, tmp_path: Path, local: Any
) -> None:
    def die_of_one() -> None:
        from xorpack.checkpoint import shards

        encode = shards.encode_tensor

        def die(task: Any) -> Any:
            if task.name == "layers.1.2.weight":
                os.kill(os.getpid(), signal.SIGKILL)
            return encode(task)

        shards.encode_tensor = die

    local.scheduler.allowed_failures = 0
    with distributed.Client(local) as client:
        client.wait_for_workers(2)
        client.run(die_of_one)
    target, address = tmp_path / "x", local.scheduler_address
    with pytest.raises(WorkerError, match=r"tensor 'layers\..*': workers died with it, .*memory"):
        xorpack.encode_checkpoint(source, target, scheduler=address, resume=True, **OPTIONS)
    local.scheduler.allowed_failures = 3
    done = []
    xorpack.encode_checkpoint(source, target, resume=True, progress=lambda *_: done.append(1), **OPTIONS)
    xorpack.encode_checkpoint(source, tmp_path / "y", **OPTIONS)
    assert contents(target) == contents(tmp_path / "y")


def test_what_is_not_there_is_named(
    source: Path, tmp_path: Path, local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(cluster, "WORKER_SECONDS", 1)
    target, address = tmp_path / "x", local.scheduler_address
    threads = threading.active_count()
    for nowhere in ("tcp://127.0.0.1:9", "tls:nothing"):
        with pytest.raises(WorkerError, match=f"scheduler {nowhere}: cannot be reached"):
            xorpack.encode_checkpoint(source, target, scheduler=nowhere)
        assert threading.active_count() <= threads
    with pytest.raises(ParameterError, match="workers says how many"):
        xorpack.encode_checkpoint(source, target, scheduler=address, workers=2)
    with pytest.raises(ParameterError, match="workers"):
        xorpack.encode_checkpoint(source, target, workers=0)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as empty,
        pytest.raises(WorkerError, match=r"no worker has come within 1 s"),
    ):
        xorpack.encode_checkpoint(source, target, scheduler=empty.scheduler_address)
    with monkeypatch.context() as patched:
        patched.setattr(cluster, "__version__", "9.9")
        with pytest.raises(WorkerError, match=rf"xorpack {xorpack.__version__}, not 9\.9 as here"):
            xorpack.encode_checkpoint(source, target, scheduler=address)
    with (
        pytest.raises(WorkerError, match=r"sees no /no/such/place"),
        cluster.cluster(address, None, paths=[Path("/no/such/place")]),
    ):
        pass
    assert os.listdir(tmp_path) == []


def test_without_dask_it_says_what_to_install(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ParameterError, match=r"pip install 'xorpack\[dask\]'"):
        xorpack.encode_checkpoint(source, tmp_path / "x", workers=2)
