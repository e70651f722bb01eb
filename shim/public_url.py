"""The URL that is entered at Twilio, as signatures are computed over it. Pure."""

from urllib.parse import urlsplit

_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_public_url(text: str) -> tuple[str, ...]:
    """Return how a request's URL may begin when this one is entered at Twilio: without its port, and with it.

    Twilio's own libraries try both, "since sig generation on back end is inconsistent". Raises `ValueError`.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is no URL; give https://HOST or https://HOST:PORT") from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not text.isascii() or not text.isprintable():
        raise ValueError("is no public URL; give https://HOST or https://HOST:PORT")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must have no user, query or fragment: only what comes before the webhook's path")
    host = parts.netloc.removesuffix(f":{port}") if port else parts.netloc.removesuffix(":")
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{host}{path}", f"{parts.scheme}://{host}:{port or _DEFAULT_PORTS[parts.scheme]}{path}"
