"""Where gRPC is served: HOST:PORT, or a Unix socket."""

from __future__ import annotations

import ipaddress
import re
import socket
import stat
from pathlib import Path

ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^:\[\]\s]+):(?P<port>[0-9]{1,5})")
UNIX = "unix:"


def is_local(address: str) -> bool:
    """Tell whether only this machine can reach it. A name is looked up, and must lead nowhere else."""
    if address.startswith(UNIX):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        found = {str(info[4][0]) for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return all(ipaddress.ip_address(each.partition("%")[0]).is_loopback for each in found)


def is_taken(address: str) -> bool:
    """Tell whether somebody answers at a Unix socket already, which gRPC would push aside without a word."""
    if not address.startswith(UNIX):
        return False
    path = Path(address.removeprefix(UNIX))
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            return True
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(1)
            caller.connect(str(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    except OSError:  # there is something, but we may not call it
        pass
    return True
