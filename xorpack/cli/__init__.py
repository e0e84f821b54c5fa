"""The command line: parses, calls, prints. Commands, a module each, are imported where interruptions are caught."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from xorpack.errors import ParameterError, XorpackError

if TYPE_CHECKING:
    from click import Command

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(command: Callable[[], Command] | None = None) -> NoReturn:
    """Entry point: errors become one line on stderr and an exit code.

    ``command``: what imports and gives the command to run; xorpack's own by default.
    """
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # nohup stays as it is
            signal.signal(number, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks
    try:
        code = _run(command or _own)
    except KeyboardInterrupt as error:
        _fail(
            f"interrupted; {error!s}" if str(error) else "interrupted; nothing was written", EXIT_INTERRUPTED
        )
    except ParameterError as error:
        _fail(str(error), EXIT_USAGE)
    except MemoryError:
        _fail("not enough memory", EXIT_FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except (XorpackError, OSError) as error:
        _fail(str(error), EXIT_FAILED)
    sys.exit(code)


def _own() -> Command:
    from xorpack.cli.commands import cli

    return cli


def _run(command: Callable[[], Command]) -> int:
    import click

    try:
        command().main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort as error:  # which click makes of an interrupt
        raise KeyboardInterrupt(*(error.__cause__.args if error.__cause__ else ())) from None
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> NoReturn:
    from xorpack.escape import printable

    print(f"xorpack: {printable(message)}", file=sys.stderr)
    sys.exit(code)
