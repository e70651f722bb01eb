"""The listening sockets: bound by us, or held by systemd, which hands them over (sd_listen_fds(3))."""

import logging
import os
import socket
from collections.abc import Sequence

from tornado.netutil import bind_sockets

from shim.errors import StartError
from shim.settings import Address

_log = logging.getLogger(__name__)

_BACKLOG = 4_096
"""How many connections may wait to be accepted; the system may allow fewer (net.core.somaxconn)."""
_FIRST_INHERITED = 3


def open_public_sockets(address: Address) -> list[socket.socket]:
    """Take the sockets that systemd holds for this process, or else bind the address.

    Raises `StartError` when the address can't be had, or when what was handed over is no listening socket.
    """
    inherited = _take_inherited()
    if not inherited:
        return bind(address, flag="--listen")
    _log.info("listening_on_inherited_sockets", extra={"listen": name(inherited), "ignored": f"--listen {address}"})
    return inherited


def bind(address: Address, *, flag: str) -> list[socket.socket]:
    """Listen on an address. Raises `StartError`, which names the flag, when it can't be had."""
    try:
        return bind_sockets(address.port, address.host, backlog=_BACKLOG)
    except OSError as error:
        raise StartError(
            f"can't listen on {address}: {error.strerror or error}; "
            f"stop what uses it, or choose another address with {flag}"
        ) from error


def name(sockets: Sequence[socket.socket]) -> str:
    """Return `host:port` of the first, with the real port."""
    host, port, *_ = sockets[0].getsockname()
    return str(Address(host, port))


def close(sockets: Sequence[socket.socket]) -> None:
    """Close them; does nothing for those that are closed."""
    for each in sockets:
        each.close()


def _take_inherited() -> list[socket.socket]:
    count, process = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()) or not count.isdecimal():
        return []  # there are none, or they are for another process
    return [_adopt(descriptor) for descriptor in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count))]


def _adopt(descriptor: int) -> socket.socket:
    try:
        adopted = socket.socket(fileno=descriptor)
        is_listening = adopted.type == socket.SOCK_STREAM and adopted.getsockopt(
            socket.SOL_SOCKET, socket.SO_ACCEPTCONN
        )
        is_internet = adopted.family in {socket.AF_INET, socket.AF_INET6}
    except OSError as error:
        raise StartError(f"LISTEN_FDS hands over no socket as file {descriptor}: {error.strerror or error}") from error
    if not is_listening or not is_internet:
        raise StartError(
            f"LISTEN_FDS hands over no listening TCP socket as file {descriptor}; give ListenStream=HOST:PORT"
        )
    adopted.setblocking(False)
    adopted.set_inheritable(False)
    return adopted
