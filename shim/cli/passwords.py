"""How a webhook password gets in and out: never as an argument, which others could read."""

import getpass
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

from aicc.mo.v1.channel_directory_pb2 import Channel

from shim.cli.output import note
from shim.cli.texts import time_text
from shim.cli.usage import CommandError, option

_Function = TypeVar("_Function", bound=Callable[..., Any])


def password_options(function: _Function) -> _Function:
    """Add --password-stdin and --generate-password."""
    function = option("--generate-password", is_flag=True, help="Have the service make one, shown once.")(function)
    return option("--password-stdin", is_flag=True, help="Read the webhook password from standard input.")(function)


def password_faults(params: Mapping[str, Any]) -> Iterable[str]:
    """Exactly one of the two must be given."""
    if bool(params.get("password_stdin")) is bool(params.get("generate_password")):
        yield "Give either --password-stdin or --generate-password."


def read_password() -> str:
    """Return the password on standard input; see `read_secret`."""
    return read_secret("Webhook password", otherwise=", or use --generate-password")


def read_secret(what: str, *, otherwise: str = "") -> str:
    """Return the secret on standard input, one line break at its end taken away.

    Asks without echo on a terminal. Raises `CommandError` when it is empty or
    no UTF-8.
    """
    if sys.stdin.isatty():
        secret = getpass.getpass(f"{what}: ")
    else:
        try:
            secret = sys.stdin.buffer.read().decode()
        except UnicodeDecodeError as error:
            raise CommandError(f"the {what.lower()} on standard input is not UTF-8; pipe it in as UTF-8") from error
        secret = secret.removesuffix("\r\n" if secret.endswith("\r\n") else "\n")
    if not secret:
        raise CommandError(f"the {what.lower()} on standard input is empty; pipe one in{otherwise}")
    return secret


def last_uses(channel: Channel) -> dict[str, str]:
    """Tell when the passwords of a channel were last used: when the old one can go."""
    fields = {"password last used": _use_text(channel, "password_use_time")}
    if channel.HasField("previous_password_expire_time"):
        fields["previous password last used"] = _use_text(channel, "previous_password_use_time")
    return fields


def _use_text(channel: Channel, name: Literal["password_use_time", "previous_password_use_time"]) -> str:
    return time_text(getattr(channel, name)) if channel.HasField(name) else "not yet (told within a minute)"


def with_generated(fields: dict[str, str], generated_password: str) -> dict[str, str]:
    """Add a generated password to what is shown, and say that this is the only time."""
    if not generated_password:
        return fields
    note("the generated password is shown this once and kept nowhere: enter it at Twilio now")
    return fields | {"generated password": generated_password}
