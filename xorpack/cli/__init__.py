"""The command line: parses, calls, prints. One module per command."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from xorpack._version import __version__
from xorpack.cli.common import say
from xorpack.cli.decode import decode
from xorpack.cli.doctor import doctor
from xorpack.cli.encode import encode
from xorpack.cli.info import info
from xorpack.cli.prune import prune
from xorpack.cli.report import report
from xorpack.cli.verify import verify
from xorpack.errors import ParameterError, XorpackError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xorpack")
def cli() -> None:
    """Store pruned, quantized checkpoints at the entropy limit, exactly."""


for command in (prune, encode, decode, verify, info, report, doctor):
    cli.add_command(command)


def main(command: click.Command = cli) -> NoReturn:
    """Run a command: errors become one line on stderr and an exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks
    try:
        command.main(standalone_mode=False)
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
    say(f"xorpack: {message}", err=True)
    sys.exit(code)
