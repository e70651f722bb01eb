"""From which address a request came, as far as somebody can be believed about it. Pure."""

import ipaddress
import re
from collections.abc import Sequence

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_WITH_PORT = re.compile(r"\[(?P<v6>[^\]]*)\](?::\d+)?|(?P<v4>[\d.]+):\d+")
_SUBSCRIBER_BITS = 64
"""What one subscriber has of IPv6: addresses in the same /64 are one source."""


class TrustedProxies:
    """The networks whose machines tell the truth in `X-Forwarded-For`."""

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._networks: list[_Network] = [ipaddress.ip_network(network) for network in networks]

    def find_source(self, peer: str, forwarded_for: Sequence[str]) -> str | None:
        """Return where a request came from: the right-most address that is none of ours.

        `forwarded_for` has the values of all such headers, in their order. None when no proxy is known: behind an
        unknown one, everybody has the same address. What a proxy wrote that is no address is as good as the proxy's
        own: what stands left of it is anybody's.
        """
        if not self._networks:
            return None
        source = _parse(peer)
        hops = [hop for value in forwarded_for for hop in value.split(",")] if forwarded_for else []
        while source and hops and self._is_trusted(source):
            hop = _parse(hops.pop())
            if hop is None:
                break
            source = hop
        return _name(source) if source else None

    def _is_trusted(self, address: _Address) -> bool:
        return any(address in network for network in self._networks)


def _parse(text: str) -> _Address | None:
    text = text.strip()
    if match := _WITH_PORT.fullmatch(text):
        text = match["v6"] or match["v4"] or ""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def _name(address: _Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _SUBSCRIBER_BITS), strict=False))
