"""The shim's flags and variables -> `Settings`. Whatever is wrong with them is said all at once."""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from shim.authorization import VerificationLimits
from shim.batching import BatchLimits
from shim.settings import Address, Settings
from shim.webhook import ConnectionLimits

_VARIABLE_PREFIX = "MO_SHIM"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`, with brackets around an IPv6 address."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", text)
    if not match or int(match[3]) > 65_535:
        raise click.BadParameter("is no address; give HOST:PORT, for example 127.0.0.1:8080")
    return Address(match[1] or match[2], int(match[3]))


def parse_target(text: str) -> str:
    """Make a gRPC target of `HOST:PORT`, of several of them with IP addresses, or of `dns:///NAME:PORT`."""
    if re.fullmatch(r"dns:///[A-Za-z0-9._-]+:[0-9]{1,5}", text):
        return text
    addresses = [parse_address(part.strip()) for part in text.split(",")]
    try:
        versions = {ipaddress.ip_address(address.host).version for address in addresses}
    except ValueError:
        if len(addresses) == 1:
            return f"dns:///{addresses[0]}"
        raise click.BadParameter("lists names; list IP addresses, or give dns:///NAME:PORT") from None
    if len(versions) > 1:
        raise click.BadParameter("mixes IPv4 and IPv6; list addresses of one kind")
    return f"ipv{versions.pop()}:" + ",".join(map(str, addresses))


def parse_host_id(text: str) -> str:
    """Read the name that the host reports under."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", text):
        raise click.BadParameter("is no host id; give 1 to 128 letters, digits, dots, hyphens or underscores")
    return text


def _name_host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:128] or "shim"


class _ThoroughCommand(click.Command):
    """A command that names every bad flag and variable, where click names the first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = ctx.allow_extra_args = True
        faults: list[str] = []
        options, rest, order = self._split(ctx, args, faults)
        for parameter in click.core.iter_params_for_processing(order, self.get_params(ctx)):
            try:
                _, rest = parameter.handle_parse_result(ctx, options, rest)
            except click.UsageError as fault:
                faults.append(fault.format_message())
        faults += [f"No such flag: {arg}" if arg.startswith("-") else f"Unexpected argument: {arg}" for arg in rest]
        if faults:
            click.echo("\n".join([ctx.get_usage(), *faults, f"See {ctx.info_name} --help."]), err=True)
            ctx.exit(2)
        return []

    def _split(
        self, ctx: click.Context, args: list[str], faults: list[str]
    ) -> tuple[dict[str, Any], list[str], list[click.Parameter]]:
        """Tell flags, their values and the rest apart; a flag without its value can only be the last."""
        try:
            options, rest, order = self.make_parser(ctx).parse_args(list(args))
        except click.UsageError as fault:
            faults.append(fault.format_message())
            options, rest, order = self.make_parser(ctx).parse_args(args[:-1])
        return dict(options), rest, order


_CONNECTIONS = ConnectionLimits()
_BATCHES = BatchLimits()
_VERIFICATION = VerificationLimits()


def command(run: Callable[[Settings], None], *, name: str) -> click.Command:
    """Make the command that reads the flags and variables and runs the shim with them."""
    return _ThoroughCommand(
        name,
        params=_options(),
        callback=lambda **values: run(_to_settings(values)),
        help="Take WhatsApp MO messages from the service provider and hand them to the service. "
        f"Every flag is also a variable: --listen is {_VARIABLE_PREFIX}_LISTEN.",
        context_settings={
            "auto_envvar_prefix": _VARIABLE_PREFIX,
            "show_default": True,
            "help_option_names": ["-h", "--help"],
        },
    )


def _options() -> list[click.Parameter]:
    return [*_places(), *_behaviour(), *_bounds_of_connections(), *_bounds_of_batches(), *_bounds_of_verification()]


def _places() -> list[click.Parameter]:
    return [
        _parsed("--listen", parse_address, "127.0.0.1:8080", "Public port, for webhooks."),
        _parsed("--admin-listen", parse_address, "127.0.0.1:8081", "Private port, for metrics and probes."),
        _parsed(
            "--service",
            parse_target,
            "127.0.0.1:50051",
            "The service: HOST:PORT, several IP addresses with commas, or dns:///NAME:PORT.",
        ),
        click.Option(
            ["--state-dir"],
            type=click.Path(file_okay=False, path_type=Path),
            default="var/shim",
            help="Folder for what the shim keeps: the journal and the directory. One for each host.",
        ),
    ]


def _behaviour() -> list[click.Parameter]:
    return [
        _bounded("--workers", 1, 64, 1, "Processes that take requests: as many as there are cores for them."),
        click.Option(
            ["--host-id"],
            default=_name_host,
            show_default="the host's name",
            help="What this host is called in `mo status`.",
            callback=lambda _, __, value: parse_host_id(value),
        ),
        click.Option(
            ["--hand-over-only"],
            is_flag=True,
            help="Take no requests: hand over what is in the journal, what the service refused before too, and end. "
            "Stop the shim of this --state-dir first: it waits for that one.",
        ),
        _chosen(
            "--reply",
            ["empty", "twiml"],
            "empty",
            "Answer stored messages with 204, or with 200 and an empty TwiML document.",
        ),
        _chosen("--log-level", ["debug", "info", "warning", "error"], "info", "What is logged on stderr."),
    ]


def _bounds_of_connections() -> list[click.Parameter]:
    return [
        _bounded(
            "--max-connections",
            1,
            1_000_000,
            _CONNECTIONS.max_connections,
            "Open connections of a worker; past it the next ones wait to be accepted.",
        ),
        _bounded(
            "--max-body-bytes-in-memory",
            2**18,
            2**34,
            _CONNECTIONS.max_body_bytes,
            "Bytes of a worker's requests that are not answered yet; past it callers get 503.",
        ),
        _bounded(
            "--max-journal-bytes",
            2**20,
            2**50,
            10 * 2**30,
            "Bytes of the host's journal; past it callers get 503.",
        ),
    ]


def _bounds_of_batches() -> list[click.Parameter]:
    return [
        _bounded("--max-batch-messages", 1, 1_000, _BATCHES.max_messages, "Messages a batch."),
        _bounded("--max-batches-in-flight", 1, 64, _BATCHES.max_in_flight, "Batches out at once."),
        _bounded(
            "--max-waiting-messages",
            1,
            10_000_000,
            _BATCHES.max_waiting_messages,
            "Messages that may wait for a batch; past it they go to the journal.",
        ),
        _bounded(
            "--max-waiting-bytes",
            2**20,
            2**34,
            _BATCHES.max_waiting_bytes,
            "Bytes that may wait for a batch; past it messages go to the journal.",
        ),
    ]


def _bounds_of_verification() -> list[click.Parameter]:
    return [
        _bounded(
            "--verification-threads", 1, 64, _VERIFICATION.threads, "Passwords verified at once: 40 ms, 19 MiB each."
        ),
        _bounded(
            "--max-waiting-verifications",
            0,
            10_000,
            _VERIFICATION.max_waiting,
            "Passwords that may wait to be verified; past it callers get 503.",
        ),
    ]


def _parsed(flag: str, parse: Callable[[str], object], default: str, explanation: str) -> click.Option:
    return click.Option(
        [flag], metavar="HOST:PORT", default=default, help=explanation, callback=lambda _, __, value: parse(value)
    )


def _chosen(flag: str, choices: Sequence[str], default: str, explanation: str) -> click.Option:
    return click.Option([flag], type=click.Choice(choices), default=default, help=explanation)


def _bounded(flag: str, low: int, high: int, default: int, explanation: str) -> click.Option:
    return click.Option([flag], type=click.IntRange(low, high), default=default, help=explanation)


def _to_settings(values: dict[str, Any]) -> Settings:
    return Settings(
        listen=values["listen"],
        admin_listen=values["admin_listen"],
        service=values["service"],
        state_dir=values["state_dir"],
        host_id=values["host_id"],
        workers=values["workers"],
        hand_over_only=values["hand_over_only"],
        max_journal_bytes=values["max_journal_bytes"],
        reply=values["reply"],
        log_level=values["log_level"],
        connections=ConnectionLimits(
            max_connections=values["max_connections"],
            max_body_bytes=values["max_body_bytes_in_memory"],
        ),
        batches=BatchLimits(
            max_messages=values["max_batch_messages"],
            max_in_flight=values["max_batches_in_flight"],
            max_waiting_messages=values["max_waiting_messages"],
            max_waiting_bytes=values["max_waiting_bytes"],
        ),
        verification=VerificationLimits(
            threads=values["verification_threads"],
            max_waiting=values["max_waiting_verifications"],
        ),
    )
