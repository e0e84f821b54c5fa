"""The command line: parses, calls, prints."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xorpack.analysis import tables
from xorpack.errors import ParameterError, XorpackError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130

_JOBS = click.option(
    "--jobs", type=click.IntRange(min=1), default=os.cpu_count() or 1, help="Threads; default: all cores."
)
_OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace DST if it exists.")
_SRC = click.argument("src", type=click.Path(path_type=Path))
_DST = click.argument("dst", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="xorpack")
def cli() -> None:
    """Store pruned, quantized checkpoints at the entropy limit, exactly."""


@cli.command()
@_SRC
@_DST
@click.option(
    "--bits", type=click.IntRange(1, 8), default=None, help="Planes of a quantized weight; default: 2."
)
@click.option("--lossless", is_flag=True, help="Keep every value bit for bit instead of quantizing.")
@click.option("--positive-zeros", is_flag=True, help="With --lossless: store -0.0 as +0.0, pruned.")
@click.option(
    "--sparsity", type=float, default=None, help="Prune this fraction; default: keep the zeros there are."
)
@click.option(
    "--scope",
    type=click.Choice(["tensor", "global"]),
    default="tensor",
    show_default=True,
    help="Prune each tensor to the sparsity, or all together.",
)
@click.option(
    "--group-size", type=click.IntRange(min=0), default=0, help="Inputs that share scales; default: the row."
)
@click.option(
    "--method",
    type=click.Choice(["alternating", "greedy"]),
    default="alternating",
    show_default=True,
    help="How scales are fitted.",
)
@click.option(
    "--scale-dtype",
    type=click.Choice(["float16", "float32"]),
    default="float16",
    show_default=True,
    help="Type of the scales.",
)
@click.option(
    "--mask",
    "mask_codec",
    type=click.Choice(["auto", "bitmap", "cascade"]),
    default="auto",
    show_default=True,
    help="How the mask is stored.",
)
@click.option(
    "--prefer",
    type=click.Choice(["size", "speed"]),
    default="size",
    show_default=True,
    help="What --mask auto minimizes.",
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Encode only these: module names, or re:EXPRESSION."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave these out.")
@_JOBS
@_OVERWRITE
@click.option("--dry-run", is_flag=True, help="Read and check, estimate sizes, write nothing.")
def encode(
    src: Path,
    dst: Path,
    bits: int | None,
    lossless: bool,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    jobs: int,
    overwrite: bool,
    dry_run: bool,
    **options: Any,
) -> None:
    """Encode SRC, a .safetensors file or a model directory, to DST."""
    from xorpack.checkpoint import Settings, encode_checkpoint

    if lossless and bits is not None:
        raise ParameterError("--bits contradicts --lossless, which keeps all bits")
    with _progress("encode") as progress:
        report = encode_checkpoint(
            src,
            dst,
            settings=Settings(lossless=lossless, bits=bits or 2, **options),
            include=include,
            exclude=exclude,
            jobs=jobs,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=progress,
        )
    console = _console()
    console.print(
        tables.accounts(report.accounts, report.seconds, estimated=report.estimated, width=console.width)
    )
    click.echo(
        tables.closing_line(report.source_bytes, report.stored_bytes, report.n_parameters, report.total)
    )
    share = report.n_negative_zeros / max(report.total.n_weights, 1)
    if share > 0.01:
        click.echo(
            f"note: {100 * share:.1f} % of the encoded weights are -0.0, as weights multiplied by a mask are; each is "
            "kept as a weight. --positive-zeros stores them as +0.0, which compares equal, and makes the file smaller.",
            err=True,
        )
    if dry_run:
        click.echo("dry run: sizes are estimates, nothing was written")


@cli.command()
@_SRC
@_DST
@_JOBS
@_OVERWRITE
def decode(src: Path, dst: Path, jobs: int, overwrite: bool) -> None:
    """Decode SRC, which xorpack encoded, to plain safetensors at DST."""
    from xorpack.checkpoint import decode_checkpoint

    with _progress("decode") as progress:
        n_bytes = decode_checkpoint(src, dst, jobs=jobs, overwrite=overwrite, progress=progress)
    click.echo(f"decoded to {dst}: {tables.mebibytes(n_bytes)}, every checksum holds")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--against", type=click.Path(path_type=Path), default=None, help="Compare with this checkpoint too."
)
@_JOBS
def verify(file: Path, against: Path | None, jobs: int) -> None:
    """Check every byte of FILE (or model directory) and that it decodes to what was encoded."""
    from xorpack.checkpoint import verify_checkpoint

    with _progress("verify") as progress:
        report = verify_checkpoint(file, against=against, jobs=jobs, progress=progress)
    click.echo(
        f"{file}: {report.n_tensors} encoded and {report.n_carried} carried tensors, every checksum holds"
    )
    if against is not None:
        click.echo(
            f"against {against}: {report.n_identical} tensors identical, {len(report.errors)} quantized"
        )
    if report.errors:
        worst = max(report.errors, key=lambda name: report.errors[name])
        mean = sum(report.errors.values()) / len(report.errors)
        click.echo(
            f"relative error of quantized tensors: mean {mean:.3f}, worst {report.errors[worst]:.3f} ({worst})"
        )


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def info(file: Path, as_json: bool) -> None:
    """Show what FILE (or model directory) holds, by tensor and part, beside the entropy bounds."""
    from xorpack.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(file, verify=False)
    description = checkpoint.info()
    if as_json:
        click.echo(json.dumps(description, indent=2))
        return
    console = _console()
    console.print(tables.accounts(checkpoint.accounts(), width=console.width))
    for line in tables.summary(description):
        click.echo(line)


def main() -> NoReturn:
    """Entry point: errors become one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _fail("interrupted; nothing was written", EXIT_INTERRUPTED)
    except ParameterError as error:
        _fail(str(error), EXIT_USAGE)
    except MemoryError:
        _fail("not enough memory", EXIT_FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except (XorpackError, OSError) as error:
        _fail(str(error), EXIT_FAILED)
    sys.exit(0)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"xorpack: {message}", err=True)
    sys.exit(code)


def _console() -> Console:
    console = Console()
    # A pipe has no width: keep whole rows together there.
    return console if console.is_terminal else Console(width=160)


@contextmanager
def _progress(verb: str) -> Iterator[Callable[[str, int, int], None]]:
    columns = (
        TextColumn(verb),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def update(name: str, n_weights: int, total: int) -> None:
            bar.update(task, description=name, total=total, advance=n_weights)

        yield update
