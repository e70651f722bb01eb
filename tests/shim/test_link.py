"""The shim's link to the service, over mutual TLS."""

from __future__ import annotations

from pathlib import Path

from aicc.mo.v1.channel_directory_pb2 import WatchChannelsResponse

from shim.link import Link
from shim.service_tls import ServiceTls
from tests.service.secured import ROLES, secured
from tests.shim.running import Events

NEW = '"spiffe://aicc/new-shim" = ["shim"]\n'


async def test_a_watch_goes_on_over_the_new_certificate(tmp_path: Path, events: Events) -> None:
    async with secured(tmp_path, ROLES + NEW) as service, service.call_as("operator") as operator:
        ours = service.authority.issue("shim", uris=["spiffe://aicc/shim"])
        link = Link(f"ipv4:{service.address}", ServiceTls(service.authority.cert, ours.cert, ours.key))
        watch = link.watch("", 0)

        async def wait_for_channel(channel: str) -> None:
            async for response in watch:
                assert isinstance(response, WatchChannelsResponse)
                if channel in [replica.channel_config_id for replica in response.channels]:
                    return

        await anext(watch)
        service.authority.issue("shim", uris=["spiffe://aicc/new-shim"], file="renewed").move_to(ours)
        await events.wait_for("service_certificates_reloaded")
        await operator.create_channel("C1")
        await wait_for_channel("C1")  # still over the old one, which it leaves with that

        service.roles.write_text(NEW + '"operator" = ["operate"]')
        await service.events.wait_for("roles_reloaded")
        await operator.create_channel("C2")
        await wait_for_channel("C2")
        assert not service.events.find("permission_denied")
        await watch.aclose()
        await link.close()
