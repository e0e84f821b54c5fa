"""Whoever does a checkpoint's tasks: threads, or workers of a dask cluster, processes on this machine or on many.

A task is a tensor (:class:`xorpack.checkpoint.task.TensorTask` and others), the same for a thread and for a worker.
Workers read the source and write what they make themselves, so all of them see both under the same paths; what they
send back is what is to be said of a tensor. A task whose worker is lost is given to another one; a tensor that takes
several workers with it is an error.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from xorpack import checks
from xorpack._version import __version__
from xorpack.errors import ParameterError, WorkerError, XorpackError
from xorpack.files.record import VERSION
from xorpack.files.url import is_url

CONNECT_SECONDS, WORKER_SECONDS = 10, 60
"""How long a scheduler is waited for, and the first of its workers."""

RESTART = {"distributed.deploy.lost-worker-timeout": "10 minutes"}
"""How long a worker of this machine that died may take to come back: dask gives up after 15 s, and if none is left the
run would wait for ever; on a busy machine it takes longer to import what a worker needs."""


def check_options(jobs: int, scheduler: str | None, workers: int | None) -> bool:
    """Whether these ask for workers.

    Raises:
        ParameterError: they do not say what threads or workers there are.
    """
    checks.whole("jobs", jobs, 1)
    if scheduler is not None and workers is not None:
        raise ParameterError("scheduler is of workers that run already, and workers says how many to start")
    if workers is not None:
        checks.whole("workers", workers, 1)
    return scheduler is not None or workers is not None


def absolute(place: str | Path) -> str | Path:
    """A place as workers elsewhere find it."""
    return place if is_url(place) else Path(place).absolute()


@contextmanager
def executor(
    jobs: int, scheduler: str | None = None, workers: int | None = None, *, paths: Iterable[Path] = ()
) -> Iterator[Executor]:
    """Threads of this process, or where they are asked for workers; when it ends, what has not begun never does.

    Args:
        jobs: how many threads; of workers on this machine, all together.
        scheduler: see :func:`cluster`.
        workers: see :func:`cluster`.
        paths: what every worker must see.

    Raises:
        ParameterError, WorkerError: see :func:`cluster`.
    """
    if scheduler is not None or workers is not None:
        with cluster(scheduler, workers, threads=max(1, jobs // (workers or 1)), paths=paths) as found:
            yield found
        return
    threads = ThreadPoolExecutor(jobs)
    try:
        yield threads
    finally:
        threads.shutdown(cancel_futures=True)


@contextmanager
def cluster(
    scheduler: str | None, workers: int | None, *, threads: int = 1, paths: Iterable[Path] = ()
) -> Iterator[Executor]:
    """Workers as an executor; when it ends, what has not begun never does.

    Args:
        scheduler: address of a running scheduler, ``tcp://HOST:PORT``.
        workers: instead, how many processes to start on this machine.
        threads: of each of these.
        paths: what every worker must see.

    Raises:
        ParameterError: dask is not installed.
        WorkerError: the scheduler cannot be reached, has no workers, or one without this version of xorpack, or without
            ``paths``; the scheduler is lost, or a task that workers die of.
    """
    try:
        import dask
        import distributed
    except ImportError:
        raise ParameterError("workers need dask: pip install 'xorpack[dask]'") from None
    with ExitStack() as stack:
        if scheduler is None:
            stack.enter_context(dask.config.set(RESTART))
            try:
                local = distributed.LocalCluster(
                    n_workers=workers, threads_per_worker=threads, processes=True, dashboard_address=":0"
                )
            except (OSError, RuntimeError) as error:
                raise WorkerError(f"{workers} workers cannot be started: {_line(error)}") from None
            address = stack.enter_context(local).scheduler_address
        else:
            address = scheduler
        _reach(address)
        client = stack.enter_context(
            distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        )
        _check_workers(client, address, [str(path.absolute()) for path in paths])
        pool = _Workers(client)
        try:
            yield pool
        except distributed.KilledWorker as error:
            raise WorkerError(
                f"tensor {pool.name(error.task)!r}: workers died with it, or with the next, the last of them "
                f"{error.last_worker.address}: they may have too little memory for a tensor as large"
            ) from None
        except CancelledError:
            raise WorkerError(f"scheduler {address}: lost; what was running there is too") from None
        finally:
            pool.shutdown()


class _Workers(Executor):
    """A client as an executor, whose tasks have the names of their tensors."""

    def __init__(self, client: Any) -> None:
        self._inner = client.get_executor(pure=False)
        self._run = uuid.uuid4().hex

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **options: Any) -> Future[Any]:
        """See :class:`concurrent.futures.Executor`."""
        key = (f"{function.__name__}-{self._run}", arguments[0].name)
        found: Future[Any] = self._inner.submit(_on_worker, function, *arguments, **options, key=key)
        return found

    def name(self, key: Any) -> str:
        """The name of a task's tensor."""
        return str(key[1])

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Drop what has not begun."""
        self._inner.shutdown(wait=False)


def _on_worker(function: Callable[..., Any], /, task: Any, *arguments: Any) -> Any:
    """Do a task; what fails there and is none of our errors names tensor and worker."""
    try:
        return function(task, *arguments)
    except XorpackError:
        raise
    except (OSError, MemoryError) as error:
        from distributed import get_worker

        worker = get_worker().address
        raise WorkerError(f"tensor {task.name!r}: worker {worker}: {_line(error)}") from None


def _reach(address: str) -> None:
    """Connect once, before there is a client: one that fails is left with a thread, which a later one may wait for."""
    from distributed import Security, comm

    async def connect() -> None:
        options = Security().get_connection_args("client")
        await (await comm.connect(address, timeout=CONNECT_SECONDS, **options)).close()

    try:
        with ThreadPoolExecutor(1) as thread:  # this one may have a loop of events that runs
            thread.submit(asyncio.run, connect()).result()
    except (OSError, ValueError, TypeError) as error:
        raise WorkerError(f"scheduler {address}: cannot be reached: {_line(error)}") from None


def _check_workers(client: Any, address: str, paths: list[str]) -> None:
    try:
        client.wait_for_workers(1, timeout=WORKER_SECONDS)
    except TimeoutError:
        raise WorkerError(f"scheduler {address}: no worker has come within {WORKER_SECONDS} s") from None

    def probe() -> tuple[str, int | None, list[str]]:  # a function within another is sent with its body
        import os

        try:
            from xorpack._version import __version__ as version
            from xorpack.files import record
        except ImportError as error:
            return f"none: {error}", None, []
        return version, record.VERSION, [path for path in paths if not os.path.exists(path)]

    for worker, (version, format_version, missing) in client.run(probe).items():
        if (version, format_version) != (__version__, VERSION):
            raise WorkerError(
                f"worker {worker}: xorpack {version}, not {__version__} as here; install the same everywhere"
            )
        if missing:
            raise WorkerError(
                f"worker {worker}: sees no {missing[0]}; source and destination must lie where all workers see them"
            )


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
