"""The entry point of `mo`: finds the noun, and turns every failure into one line and an exit code.

Exit codes: 0 done, 1 failed, 2 used wrongly, 130 interrupted.
"""

import os
import sys
import traceback
from collections.abc import Sequence
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import TracebackType

import click

from shim.cli.usage import CommandError, LazyGroup
from shim.privacy import keep_private

# Imported only when asked for, so that `mo --help` costs no gRPC.
NOUNS = {
    "channel": "Channels: create, list, show, update, delete, rotate-password, webhook, secret.",
    "route": "The routes of a channel: list, set, explain, history.",
    "feed": "What waits for a destination: pull, ack.",
    "destination": "The queues of AICC services: list, show, update.",
    "dead-letter": "Messages that were given up for a destination: list, show, redrive, discard.",
    "message": "What was received, and what became of it: show, list, trace, re-route, replay, erase-sender.",
    "replay": "Replays of stored messages: list, show, watch, cancel.",
    "conversation": "Where a conversation goes for a time: assign, release.",
    "held": "Messages that wait for an operator: list, show, release, discard.",
    "quarantine": "Requests that were no valid message: list, show, retry, discard.",
    "secrets": "The key that auth tokens and shared keys are sealed with: init, add-key, rotate.",
    "audit": "What was done by hand: list.",
    "status": "Whether all of it works, and what waits where.",
    "send": "Plays Twilio: posts messages to a webhook URL.",
}


@click.group(
    "mo",
    cls=LazyGroup,
    package="shim.cli",
    nouns=NOUNS,
    context_settings={"auto_envvar_prefix": "MO", "help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  mo channel list\n  mo --service mo.internal:50051 status --json",
)
def cli() -> None:
    """Operates the WhatsApp MO gateway of the AICC.

    Every option has a variable too: MO_SERVICE, MO_TIMEOUT, MO_OPERATOR, MO_JSON,
    and for those of a command MO_NOUN_VERB_OPTION.
    """


def main() -> None:
    """Run `mo` with the arguments of this process, and exit."""
    # Errors of the connection reach the person as our own line, not as the C core's log.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    keep_private()
    sys.excepthook = _report_own_fault
    sys.stdin = sys.stdin or TextIOWrapper(BytesIO())
    if sys.stdout is None:
        _report("standard output is closed: there is nowhere to print to")
        sys.exit(1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        # Said already. What is left would fail once more at the interpreter's end, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    if any(0xD800 <= ord(character) < 0xE000 for argument in arguments for character in argument):
        _report("the command line is not UTF-8; type it in UTF-8")
        return 2
    try:
        code = cli.main(args=list(arguments), prog_name="mo", standalone_mode=False)
    except click.UsageError as error:
        _report_usage(error)
        return error.exit_code
    except (CommandError, click.Abort, OSError) as error:
        return _report_failure(error)
    return code if isinstance(code, int) else 0


def _report(*lines: str) -> None:
    for line in lines:
        click.echo(f"mo: {line}", err=True)


def _report_usage(error: click.UsageError) -> None:
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    command = error.ctx.command_path if error.ctx else "mo"
    for line in error.format_message().splitlines():
        click.echo(f"{command}: {line}", err=True)
    click.echo(f"See: {command} --help", err=True)


def _report_failure(error: CommandError | click.Abort | OSError) -> int:
    """Say why the command failed; returns the exit code."""
    if isinstance(error, CommandError):
        _report(*error.lines)
    elif isinstance(error, OSError):
        _report(f"{error.strerror or type(error).__name__}{f': {error.filename}' if error.filename else ''}")
    elif isinstance(error.__cause__, EOFError):
        _report("the input ended before there was an answer")
    else:
        return 130
    return 1


def _report_own_fault(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say where mo itself failed; not with which values, which may be secrets."""
    frames = traceback.extract_tb(trace)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    _report(f"a fault of mo itself ({kind.__name__}{place}); please report it with the command that you gave")


if __name__ == "__main__":
    main()
