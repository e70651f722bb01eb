"""The shim's flags and variables -> `Settings`. Whatever is wrong with them is said all at once."""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from shim.bound_flags import (
    bounded,
    bounds_of_batches,
    bounds_of_connections,
    bounds_of_verification,
    to_batches,
    to_connections,
    to_verification,
)
from shim.public_url import parse_public_url
from shim.service_tls import find_conflicts as find_conflicts_of_service_tls
from shim.service_tls import to_service_tls
from shim.settings import Address, CertificateFiles, Settings
from shim.thorough_command import ThoroughCommand

_VARIABLE_PREFIX = "MO_SHIM"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT`, with brackets around an IPv6 address."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", text)
    if not match or int(match[3]) > 65_535:
        raise click.BadParameter("is no address; give HOST:PORT, for example 127.0.0.1:8080")
    return Address(match[1] or match[2], int(match[3]))


def parse_target(text: str) -> str:
    """Make a gRPC target of `HOST:PORT`, of several with IP addresses, of `dns:///NAME:PORT` or of `unix:/PATH`."""
    if re.fullmatch(r"dns:///[A-Za-z0-9._-]+:[0-9]{1,5}|unix:/.+", text):
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


def parse_networks(text: str) -> tuple[str, ...]:
    """Read networks with commas between them, for example `10.0.0.0/8,fd00::/8`; a single address is a network too."""
    networks = [part.strip() for part in text.split(",")] if text else []
    try:
        return tuple(str(ipaddress.ip_network(network)) for network in networks)
    except ValueError as fault:
        raise click.BadParameter(f"is no list of networks: {fault}; give for example 10.1.2.0/24,fd00::/8") from None


def parse_public_urls(text: str) -> tuple[str, ...]:
    """Read URLs with commas between them: where webhooks go, and where they go when that fails."""
    urls = tuple(part.strip() for part in text.split(",")) if text else ()
    try:
        for url in urls:
            parse_public_url(url)
    except ValueError as fault:
        raise click.BadParameter(str(fault)) from None
    return urls


def parse_host_id(text: str) -> str:
    """Read the name that the host reports under."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", text):
        raise click.BadParameter("is no host id; give 1 to 128 letters, digits, dots, hyphens or underscores")
    return text


def _name_host() -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:128] or "shim"


def command(run: Callable[[Settings], None], *, name: str) -> click.Command:
    """Make the command that reads the flags and variables and runs the shim with them."""
    return ThoroughCommand(
        name,
        params=_options(),
        callback=lambda **values: run(_to_settings(values)),
        find_conflicts=_find_conflicts,
        help="Take WhatsApp MO messages from the service provider and hand them to the service. "
        f"Every flag is also a variable: --listen is {_VARIABLE_PREFIX}_LISTEN.",
        context_settings={
            "auto_envvar_prefix": _VARIABLE_PREFIX,
            "show_default": True,
            "help_option_names": ["-h", "--help"],
        },
    )


def _options() -> list[click.Parameter]:
    return [
        *_places(),
        *_surroundings(),
        *_signatures(),
        *_behaviour(),
        *bounds_of_connections(),
        *bounds_of_batches(),
        *bounds_of_verification(),
    ]


def _places() -> list[click.Parameter]:
    return [
        _parsed("--listen", parse_address, "127.0.0.1:8080", "Public port, for webhooks."),
        _parsed("--admin-listen", parse_address, "127.0.0.1:8081", "Private port, for metrics and probes."),
        _parsed(
            "--service",
            parse_target,
            "127.0.0.1:50051",
            "The service: HOST:PORT, several IP addresses with commas, dns:///NAME:PORT, or unix:/PATH.",
        ),
        *_files_of_service_tls(),
        click.Option(
            ["--state-dir"],
            type=click.Path(file_okay=False, path_type=Path),
            default="var/shim",
            help="Folder for what the shim keeps: the journal and the directory. One for each host.",
        ),
    ]


def _files_of_service_tls() -> list[click.Parameter]:
    pem = click.Path(exists=True, dir_okay=False, path_type=Path)
    return [
        click.Option(
            ["--service-ca"],
            type=pem,
            default=None,
            help="Who signs the service's certificate, PEM: TLS to the service. Read again when it changes.",
        ),
        click.Option(["--client-cert"], type=pem, default=None, help="Our certificate for the service, PEM; likewise."),
        click.Option(["--client-key"], type=pem, default=None, help="Its key, PEM, without a pass phrase."),
        click.Option(
            ["--service-name"],
            default="",
            show_default="the host in --service",
            help="The name in the service's certificate.",
        ),
    ]


def _surroundings() -> list[click.Parameter]:
    pem = click.Path(dir_okay=False, path_type=Path)
    return [
        click.Option(
            ["--tls-cert"],
            type=pem,
            default=None,
            help="Certificate chain of the public port, PEM; read anew when it changes.",
        ),
        click.Option(["--tls-key"], type=pem, default=None, help="Its key, PEM, without a pass phrase."),
        click.Option(
            ["--trusted-proxy"],
            metavar="CIDR[,CIDR]",
            default="",
            show_default="none",
            help="Networks of the proxies before the shim: believed about where a request came from (X-Forwarded-For).",
            callback=lambda _, __, value: parse_networks(value),
        ),
    ]


def _signatures() -> list[click.Parameter]:
    return [
        click.Option(
            ["--public-url"],
            metavar="URL[,URL]",
            default="",
            show_default="none",
            help="What is entered at Twilio before the webhook's path, https://HOST: signatures are checked for it.",
            callback=lambda _, __, value: parse_public_urls(value),
        ),
        click.Option(
            ["--secrets-key"],
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            default=None,
            help="The service's key file, which opens what signatures are checked with; read again when it changes.",
        ),
    ]


def _behaviour() -> list[click.Parameter]:
    return [
        bounded("--workers", 1, 64, 1, "Processes that take requests: as many as there are cores for them."),
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


def _parsed(flag: str, parse: Callable[[str], object], default: str, explanation: str) -> click.Option:
    return click.Option(
        [flag], metavar="HOST:PORT", default=default, help=explanation, callback=lambda _, __, value: parse(value)
    )


def _chosen(flag: str, choices: Sequence[str], default: str, explanation: str) -> click.Option:
    return click.Option([flag], type=click.Choice(choices), default=default, help=explanation)


def _to_settings(values: dict[str, Any]) -> Settings:
    return Settings(
        listen=values["listen"],
        admin_listen=values["admin_listen"],
        service=values["service"],
        service_tls=to_service_tls(values),
        state_dir=values["state_dir"],
        host_id=values["host_id"],
        workers=values["workers"],
        hand_over_only=values["hand_over_only"],
        max_journal_bytes=values["max_journal_bytes"],
        reply=values["reply"],
        log_level=values["log_level"],
        certificate=_to_files(values["tls_cert"], values["tls_key"]),
        trusted_proxies=values["trusted_proxy"],
        public_urls=values["public_url"],
        secrets_key=values["secrets_key"],
        connections=to_connections(values),
        batches=to_batches(values),
        verification=to_verification(values),
    )


def _to_files(certificate: Path | None, key: Path | None) -> CertificateFiles | None:
    return CertificateFiles(certificate, key) if certificate and key else None


def _find_conflicts(values: dict[str, Any]) -> list[str]:
    faults = [*find_conflicts_of_service_tls(values)]
    if (values["tls_cert"] is None) != (values["tls_key"] is None):
        faults.append("--tls-cert and --tls-key need each other; give both, or neither")
    return faults
