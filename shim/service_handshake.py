"""TLS to the service: the files as they are used, and what is wrong when it fails. Knows no gRPC."""

import asyncio
import contextlib
import re
import socket
import ssl
from dataclasses import dataclass

from shim.errors import StartError
from shim.service_tls import ServiceTls

_PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What is in the files, as it was read."""

    ca: bytes
    cert: bytes | None
    key: bytes | None


def read_material(tls: ServiceTls) -> TlsMaterial:
    """Read the files and check that they can be used. Raises `StartError`."""
    make_context(tls)
    try:
        return TlsMaterial(
            tls.ca.read_bytes(),
            tls.cert.read_bytes() if tls.cert else None,
            tls.key.read_bytes() if tls.key else None,
        )
    except OSError as error:
        raise StartError(f"can't read {error.filename}: {error.strerror}; see --service-ca, --client-cert") from error


def make_context(tls: ServiceTls) -> ssl.SSLContext:
    """Make of the files what Python's own TLS goes by. Raises `StartError` when they are no good."""
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except OSError as error:
        raise StartError(
            f"can't use {tls.ca} (--service-ca): {_reason_of(error)}; certificates in PEM are needed"
        ) from error
    # gRPC's TLS isn't that strict, whose failure this is to explain.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.set_alpn_protocols(["h2"])
    if tls.cert and tls.key:
        try:
            # A pass phrase, or OpenSSL would ask for one at the terminal.
            context.load_cert_chain(tls.cert, tls.key, password="")
        except OSError as error:
            raise StartError(
                f"can't use {tls.cert} (--client-cert) with {tls.key} (--client-key): {_reason_of(error)}; a "
                "certificate and its own key are needed, in PEM, without a pass phrase"
            ) from error
    return context


async def find_tls_fault(target: str, tls: ServiceTls | None) -> str | None:
    """Tell what about TLS keeps us from a service that was not to be reached; None when that isn't it.

    Calls the addresses of a gRPC target until one answers; gives up after 2 s.
    """
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            for place in re.sub(r"^(dns:///|ipv[46]:)", "", target).split(","):
                with contextlib.suppress(ConnectionRefusedError, socket.gaierror):
                    return await (_probe_tls(place, tls) if tls else _probe_plain(place))
    except (OSError, TimeoutError):
        pass
    return None


async def _probe_tls(place: str, tls: ServiceTls) -> str | None:
    """Shake hands as gRPC would have done, and hear what comes of it."""
    try:
        reader, writer = await _dial(place, make_context(tls), tls.name)
        with contextlib.closing(writer):
            # A service that lets us in speaks first; one that doesn't says so only after the handshake.
            return None if await reader.read(1) else _explain_refusal(tls)
    except ssl.SSLCertVerificationError as error:
        return f"the service's certificate is no good: {error.verify_message}; see --service-ca and --service-name"
    except ssl.SSLError as error:
        return _explain_refusal(tls) if "ALERT" in (error.reason or "") else _explain_no_tls(error)
    except ConnectionResetError:
        return _explain_refusal(tls)
    except StartError as error:
        return str(error)


async def _probe_plain(place: str) -> str | None:
    """Tell whether TLS is spoken there, whatever it thinks of us."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent: only what it speaks is of interest
    context.set_alpn_protocols(["h2"])
    try:
        _, writer = await _dial(place, context, "")
        writer.close()
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return None
    return "the service speaks TLS; give --service-ca, and most likely --client-cert"


async def _dial(place: str, context: ssl.SSLContext, name: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if place.startswith("unix:"):
        return await asyncio.open_unix_connection(place.removeprefix("unix:"), ssl=context, server_hostname=name)
    host, _, port = place.rpartition(":")
    host = host.strip("[]")
    return await asyncio.open_connection(host, int(port), ssl=context, server_hostname=name or host)


def _explain_refusal(tls: ServiceTls) -> str:
    if tls.cert:
        return (
            f"the service refuses our certificate {tls.cert} (--client-cert): it is expired, or not signed by whom the "
            "service's --tls-client-ca names"
        )
    return "the service asks for a certificate; give --client-cert and --client-key"


def _explain_no_tls(error: ssl.SSLError) -> str:
    if error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING"}:
        return "the service doesn't speak TLS; start it with --tls-cert, or leave --service-ca out"
    return f"the service's TLS and ours don't fit: {error.reason}"


def _reason_of(error: OSError) -> str:
    return (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or "no PEM"
