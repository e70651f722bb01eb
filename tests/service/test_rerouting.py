"""Re-routing of stored messages, over a real connection and over the store's contract."""

from __future__ import annotations

from aicc.mo.v1 import channel_directory_pb2 as directory_pb
from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2

from service.models import Decision, HoldReason, Release
from service.store.contract import Store
from tests.service.builders import a_message
from tests.service.stubs import Client, mo_message

MUCH = 10**9


async def ingest(client: Client, *sids: str) -> None:
    messages = [mo_message(sid) for sid in sids]
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=messages))


async def drain(client: Client, destination: str) -> list[str]:
    drained: list[str] = []
    while deliveries := (await client.feed.Pull(feed_pb.PullRequest(destination=destination))).deliveries:
        drained += [delivery.message.message_sid for delivery in deliveries]
        ack_ids = [delivery.ack_id for delivery in deliveries]
        await client.feed.Acknowledge(feed_pb.AcknowledgeRequest(destination=destination, ack_ids=ack_ids))
    return drained


async def re_route(client: Client, *sids: str) -> list[str]:
    keys = [message_pb2.MessageKey(channel_config_id="C1", message_sid=sid) for sid in sids]
    results = (await client.archive.ReRoute(pb.ReRouteRequest(keys=keys))).results
    return [pb.ReRouteOutcome.Name(result.outcome).removeprefix("RE_ROUTE_OUTCOME_") for result in results]


async def send_all_to(client: Client, *destinations: str) -> None:
    routes = [directory_pb.Route(route_id="all", destinations=destinations)]
    await client.directory.SetRoutes(directory_pb.SetRoutesRequest(channel_config_id="C1", routes=routes))


async def test_what_waits_goes_where_todays_routes_say_in_order_among_what_waits_there(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1", "SM2")
    await send_all_to(client, "agents", "archive")
    await ingest(client, "SM3")

    assert await re_route(client, "SM2", "SM1", "SM3", "SM9") == ["MOVED", "MOVED", "UNCHANGED", "NOT_FOUND"]

    assert await drain(client, "default") == []
    assert await drain(client, "agents") == ["SM1", "SM2", "SM3"]
    assert await drain(client, "archive") == ["SM1", "SM2", "SM3"]


async def test_what_was_delivered_stays_and_new_destinations_get_it_too(client: Client) -> None:
    await client.create_channel()
    await ingest(client, "SM1")
    assert await drain(client, "default") == ["SM1"]
    await send_all_to(client, "agents")

    assert await re_route(client, "SM1") == ["MOVED"]

    assert await drain(client, "agents") == ["SM1"]
    key = pb.GetMessageRequest(channel_config_id="C1", message_sid="SM1")
    shown = (await client.archive.GetMessage(key)).message
    assert {delivery.destination for delivery in shown.deliveries} == {"agents", "default"}
    assert (shown.route_id, shown.state) == ("all", pb.MESSAGE_STATE_DELIVERED)
    assert await re_route(client, "SM1") == ["UNCHANGED"]


async def test_what_is_out_stays_with_its_consumer(store: Store) -> None:
    await store.record([a_message("SM1"), a_message("SM2")])
    (out,) = (await store.claim("default", limit=1, max_bytes=MUCH, lease_seconds=60)).deliveries

    both = [Release(sequence, Decision(("agents",))) for sequence in (1, 2)]
    assert set(await store.re_route(both)) == {1, 2}

    assert (await store.find_message("C1", "SM1")).decision.destinations == ("agents", "default")  # type: ignore[union-attr]
    assert (await store.find_message("C1", "SM2")).decision.destinations == ("agents",)  # type: ignore[union-attr]
    assert out.sequence == 1
    assert not (await store.claim("default", limit=9, max_bytes=MUCH, lease_seconds=60)).deliveries


async def test_held_messages_are_left_alone_by_the_store(store: Store) -> None:
    await store.record([a_message("SM1", hold_reason=HoldReason.CHANNEL_PAUSED)])

    assert not await store.re_route([Release(1, Decision(("agents",)))])
    assert not await store.list_audit("re-route", before=None, limit=9)
