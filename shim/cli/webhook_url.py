"""What to enter at Twilio for a channel, and what is wrong with a public URL. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

# Two more tries, on a failed connection, a read time-out or a 5xx: without it Twilio sends a message once.
_RETRIES = "#rc=2&rp=ct,rt,5xx"
_LOCAL = {"localhost", "127.0.0.1", "::1"}


def url_faults(params: Mapping[str, Any]) -> Iterable[str]:
    """Name everything that is wrong with the URLs."""
    for name in ("public_url", "fallback_url"):
        if params.get(name):
            yield from (f"--{name.replace('_', '-')}: {fault}." for fault in faults(params[name]))


def faults(url: str) -> Iterable[str]:
    """Name everything that is wrong with one URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        yield "it is no URL; write it like https://mo.example.com"
        return
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        yield "write it like https://mo.example.com"
    elif parts.scheme == "http" and parts.hostname not in _LOCAL:
        yield "it must be https: the webhook password travels with every message"
    if parts.username is not None or parts.password is not None:
        yield "leave user and password out: they have their place in what is printed"
    if parts.query or parts.fragment:
        yield "leave out everything from ? or # on"
    if port == 0 or any(character.isspace() or not character.isprintable() for character in url):
        yield "it holds a port or a character that no URL has"


def entries(
    channel_config_id: str, provider: str, user: str, public_url: str, fallback_url: str | None
) -> dict[str, str]:
    """Return what to enter, field by field, with placeholders for the credentials."""
    path = f"/social/on/whatsapp/{quote(provider, safe='')}/message/{channel_config_id}"
    found = {"url": _with_credentials(urlsplit(public_url), path), "method": "POST"}
    if fallback_url:
        found |= {"fallback_url": _with_credentials(urlsplit(fallback_url), path), "fallback_method": "POST"}
    return found | {"user": quote(user, safe="")}


def remarks(user: str, public_url: str, fallback_url: str | None) -> Iterable[str]:
    """Say what the person has to know besides."""
    yield "put the channel's user and webhook password in the places of USER and PASSWORD; mo doesn't know the password"
    if quote(user, safe="") != user:
        yield (
            "the user holds characters that a URL can't: enter it percent-encoded as shown, and the password likewise; "
            "Twilio advises against such characters, so a plain user is safer: mo channel update ID --user USER"
        )
    if not fallback_url:
        yield "without --fallback-url a message is lost when all tries at this one URL fail"
        return
    yield (
        "the fallback ends in the same channel on purpose: a message that arrives both ways is recognised as one "
        "by channel and MessageSid"
    )
    if urlsplit(fallback_url).hostname == urlsplit(public_url).hostname:
        yield "the fallback is the same host: what takes one down takes the other down too; use another host"


def _with_credentials(parts: SplitResult, path: str) -> str:
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://USER:PASSWORD@{host}{parts.path.rstrip('/')}{path}{_RETRIES}"
