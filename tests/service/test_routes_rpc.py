"""Routes over a real connection: set, tried, looked back at, explained."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as pb
from aicc.mo.v1 import message_ingest_pb2 as ingest_pb
from aicc.mo.v1 import message_pb2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from tests.service.stubs import Client, mo_message, violations_of

MONDAY_9_30 = Timestamp(seconds=1_795_422_600)
MONDAY_18_30 = Timestamp(seconds=1_795_455_000)
OFFICE = pb.TimeWindow(
    time_zone="Europe/Berlin",
    days=[pb.DAY_OF_WEEK_MONDAY, pb.DAY_OF_WEEK_TUESDAY],
    start="09:00",
    end="17:00",
)


def a_route(route_id: str, *destinations: str, **match: Any) -> pb.Route:
    return pb.Route(route_id=route_id, match=pb.RouteMatch(**match), destinations=destinations or ["bot"])


async def set_routes(client: Client, *routes: pb.Route) -> pb.SetRoutesResponse:
    return await client.directory.SetRoutes(pb.SetRoutesRequest(channel_config_id="C1", routes=routes))


async def try_routes(client: Client, *routes: pb.Route, **values: Any) -> pb.TryRoutesResponse:
    request = pb.TryRoutesRequest(channel_config_id="C1", routes=routes, **values)
    return await client.directory.TryRoutes(request)


async def explain(client: Client, **values: Any) -> ingest_pb.ExplainRouteResponse:
    return await client.ingest.ExplainRoute(ingest_pb.ExplainRouteRequest(**values))


async def ingest(client: Client, *messages: message_pb2.MoMessage) -> None:
    await client.ingest.IngestBatch(ingest_pb.IngestBatchRequest(messages=messages))


async def test_routes_come_back_as_they_were_set(client: Client) -> None:
    await client.create_channel()
    routes = [a_route("office", time_windows=[OFFICE], percentage=12.5), a_route("rest", "desk", is_reply=False)]

    assert not (await set_routes(client, *routes)).warnings

    found = await client.directory.GetRoutes(pb.GetRoutesRequest(channel_config_id="C1"))
    assert list(found.routes) == routes


async def test_what_a_window_leaves_out_is_filled_in(client: Client) -> None:
    await client.create_channel()
    await set_routes(client, a_route("always", time_windows=[pb.TimeWindow()]))

    found = await client.directory.GetRoutes(pb.GetRoutesRequest(channel_config_id="C1"))

    assert list(found.routes[0].match.time_windows) == [pb.TimeWindow(time_zone="UTC", start="00:00", end="24:00")]


async def test_a_route_that_can_never_match_is_taken_with_a_warning(client: Client) -> None:
    await client.create_channel()

    response = await set_routes(client, a_route("all"), a_route("late", keywords=["help"]))

    assert response.revision == 1
    assert [warning.route_id for warning in response.warnings] == ["late"]


async def test_every_fault_of_every_route_is_named_with_its_path(client: Client) -> None:
    await client.create_channel()
    window = pb.TimeWindow(time_zone="Europe/Atlantis", days=[pb.DAY_OF_WEEK_UNSPECIFIED], start="24:00", end="9:00")
    routes = [
        a_route("a b", "the bot", time_windows=[OFFICE, window], percentage=12.345),
        a_route("twice", keywords=[" "], body_pattern="("),
        a_route("twice", percentage=float("nan")),
        a_route("more", time_windows=[pb.TimeWindow(time_zone="../etc/passwd", end="24:01")], percentage=100.01),
    ]

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await try_routes(client, *routes, max_messages=10_001)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == [
        "max_messages",
        "routes[0].destinations[0]",
        "routes[0].match.percentage",
        "routes[0].match.time_windows[1].days[0]",
        "routes[0].match.time_windows[1].end",
        "routes[0].match.time_windows[1].start",
        "routes[0].match.time_windows[1].time_zone",
        "routes[0].route_id",
        "routes[1].match.body_pattern",
        "routes[1].match.keywords[0]",
        "routes[2].match.percentage",
        "routes[2].route_id",
        "routes[3].match.percentage",
        "routes[3].match.time_windows[0].end",
        "routes[3].match.time_windows[0].time_zone",
    ]


async def test_a_draft_is_tried_on_each_message_as_of_when_it_was_received(client: Client) -> None:
    await client.create_channel()
    await ingest(
        client,
        mo_message("early", receive_time=MONDAY_9_30),
        mo_message("late", receive_time=MONDAY_18_30),
        mo_message("order", receive_time=MONDAY_9_30, body="my order"),
    )
    await set_routes(client, a_route("orders", keywords=["order"]))

    tried = await try_routes(
        client, a_route("orders", keywords=["order"]), a_route("office", "desk", time_windows=[OFFICE])
    )

    assert (tried.messages, tried.different) == (3, 1)
    assert list(tried.differences) == [
        pb.RouteDifference(
            message_sid="early", destinations=["default"], draft_route_id="office", draft_destinations=["desk"]
        )
    ]
    still = await client.directory.GetRoutes(pb.GetRoutesRequest(channel_config_id="C1"))
    assert still.revision == 1


async def test_a_draft_is_tried_on_as_many_of_the_newest_messages_as_asked_for(client: Client) -> None:
    await client.create_channel()
    await ingest(client, *[mo_message(f"SM{number}") for number in range(230)])

    tried = await try_routes(client, a_route("all"), a_route("shadowed"), max_messages=210)

    assert (tried.messages, tried.different, len(tried.differences)) == (210, 210, 210)
    assert (tried.differences[0].message_sid, tried.differences[-1].message_sid) == ("SM229", "SM20")
    assert [warning.route_id for warning in tried.warnings] == ["shadowed"]


async def test_the_revisions_of_routes_are_listed_newest_first_page_by_page(client: Client) -> None:
    await client.create_channel()
    for number in range(3):
        await set_routes(client, a_route(f"r{number}", time_windows=[OFFICE]))

    request = pb.ListRouteRevisionsRequest(channel_config_id="C1", page_size=2)
    first = await client.directory.ListRouteRevisions(request)
    request.page_token = first.next_page_token
    second = await client.directory.ListRouteRevisions(request)

    pages = [[(each.revision, each.routes[0].route_id) for each in page.revisions] for page in (first, second)]
    assert pages == [[(3, "r2"), (2, "r1")], [(1, "r0")]]
    assert not second.next_page_token
    assert first.revisions[0].create_time.seconds > 0


async def test_a_page_of_large_revisions_is_no_larger_than_a_client_takes(client: Client) -> None:
    await client.create_channel()
    large = [a_route(f"r{number}", keywords=["x" * 1000]) for number in range(900)]
    for _ in range(6):
        await set_routes(client, *large)

    request = pb.ListRouteRevisionsRequest(channel_config_id="C1")
    found: list[int] = []
    while not found or request.page_token:
        page = await client.directory.ListRouteRevisions(request)
        found += [each.revision for each in page.revisions]
        request.page_token = page.next_page_token

    assert found == [6, 5, 4, 3, 2, 1]


async def test_a_channel_that_is_not_there_has_no_routes_to_try_or_to_look_back_at(client: Client) -> None:
    for call in (
        client.directory.TryRoutes(pb.TryRoutesRequest(channel_config_id="C9")),
        client.directory.ListRouteRevisions(pb.ListRouteRevisionsRequest(channel_config_id="C9")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_stored_message_is_explained_as_of_when_it_was_received(client: Client) -> None:
    await client.create_channel()
    await ingest(client, mo_message("SM1", receive_time=MONDAY_18_30))
    await set_routes(client, a_route("office", "desk", time_windows=[OFFICE]), a_route("rest"))

    explained = await explain(client, key=message_pb2.MessageKey(channel_config_id="C1", message_sid="SM1"))

    assert (explained.route_id, list(explained.destinations)) == ("rest", ["bot"])
    assert "Monday 18:30 in Europe/Berlin" in explained.explanations[0].mismatches[0]


@pytest.mark.parametrize(
    ("request_fields", "fields"),
    [
        pytest.param({}, ["message"], id="nothing to explain"),
        pytest.param({"message": mo_message(""), "key": message_pb2.MessageKey()}, ["message"], id="both"),
        pytest.param(
            {"key": message_pb2.MessageKey()}, ["key.channel_config_id", "key.message_sid"], id="an empty key"
        ),
        pytest.param(
            {"message": mo_message("", receive_time=Timestamp(seconds=2**60))},
            ["message.receive_time"],
            id="a time that is none",
        ),
    ],
)
async def test_an_explanation_needs_one_message(client: Client, request_fields: Any, fields: list[str]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await explain(client, **request_fields)

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sorted(violations_of(caught.value)) == fields


async def test_a_message_that_is_not_stored_is_not_found(client: Client) -> None:
    await client.create_channel()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await explain(client, key=message_pb2.MessageKey(channel_config_id="C1", message_sid="SM9"))

    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_channel_has_affinity_until_it_is_taken_away(client: Client) -> None:
    created = (await client.create_channel(affinity=Duration(seconds=1800))).channel
    assert created.affinity == Duration(seconds=1800)

    request = pb.UpdateChannelRequest(channel=pb.Channel(channel_config_id="C1"))
    request.update_mask.paths.append("affinity")
    updated = (await client.directory.UpdateChannel(request)).channel

    assert not updated.HasField("affinity")


@pytest.mark.parametrize(
    "affinity", [Duration(seconds=-1), Duration(seconds=2_592_001), Duration(seconds=1, nanos=500_000_000)], ids=str
)
async def test_an_affinity_out_of_bounds_is_named_with_the_other_faults(client: Client, affinity: Duration) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.create_channel(affinity=affinity, number="1")

    assert sorted(violations_of(caught.value)) == ["affinity", "number"]
