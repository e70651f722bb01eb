"""The bounds of a worker's public port."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many callers, how much of them, and how long for each."""

    max_connections: int = 4_000
    """Past it no more are accepted: they wait in the kernel, or another worker takes them."""
    max_body_bytes: int = 64 * 2**20
    """The bytes of requests that are not answered yet. A body past it is answered with 503; one whose caller was not
    verified before already past the half of it, so that nobody without a password takes the room of those who have
    one."""
    head_seconds: float = 10.0
    """How long a head may take; the first of a connection from when that was made, a TLS handshake included."""
    body_seconds: float = 10.0
    """How long a body may take, and how long a caller may take to read its answer."""
    idle_seconds: float = 75.0
    """How long a connection may wait for its next head."""
    delay_seconds: float = 2.0
    """How long who is past a limit for wrong credentials waits for his answer."""
