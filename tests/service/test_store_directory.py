"""The contract of a store: channels, their routes, and the revisions that shims follow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.errors import AlreadyExists, Conflict, NotFound, StillInUse
from service.models import (
    ChannelState,
    Credentials,
    DirectoryPosition,
    HoldReason,
    Route,
    RouteRevision,
    Settlement,
    SettlementKind,
    TimeWindow,
)
from service.store.contract import Store
from tests.service.builders import ManualClock, a_channel, a_message


async def test_a_channel_is_found_as_it_was_created(store: Store, clock: ManualClock) -> None:
    credentials = Credentials("üser", "$new", "$old", 17, 3)
    wanted = a_channel(
        credentials=credentials,
        number="+491234567",
        state=ChannelState.PAUSED,
        destination=None,
        infer_message_type=True,
        affinity_seconds=1800,
    )

    stored = await store.create_channel(wanted)

    assert stored == replace(wanted, revision=clock.now, created_at=clock.now, updated_at=clock.now)
    assert await store.find_channels(["C1", "C2"]) == {"C1": stored}


async def test_an_id_is_used_once_even_after_its_channel_is_gone(store: Store) -> None:
    await store.create_channel(a_channel())
    with pytest.raises(AlreadyExists):
        await store.create_channel(a_channel())
    await store.delete_channel("C1", expected=None)

    with pytest.raises(AlreadyExists):
        await store.create_channel(a_channel())


async def test_channels_are_listed_by_id_without_the_deleted_ones(store: Store) -> None:
    for name in ("b", "a", "d", "c"):
        await store.create_channel(a_channel(name))
    await store.delete_channel("c", expected=None)

    listed = [channel.channel_config_id for channel in await store.list_channels(after="a", limit=2)]

    assert listed == ["b", "d"]


async def test_a_channel_is_replaced_only_at_the_revision_that_was_read(store: Store) -> None:
    read = await store.create_channel(a_channel())
    stored = await store.replace_channel(replace(read, number="+491111111"))

    with pytest.raises(Conflict):
        await store.replace_channel(replace(read, number="+492222222"))

    assert (await store.find_channels(["C1"]))["C1"] == stored
    assert stored.number == "+491111111"


async def test_replacing_a_channel_leaves_its_routes_alone(store: Store) -> None:
    await store.create_channel(a_channel())
    routes = (Route("r1", ("bot",), keywords=("help",), is_reply=False),)
    await store.replace_routes("C1", routes, expected=None)
    read = (await store.find_channels(["C1"]))["C1"]

    stored = await store.replace_channel(replace(read, routes=(), number="+491111111"))

    assert (stored.routes, stored.route_revision) == (routes, 1)


async def test_routes_get_a_revision_of_their_own(store: Store) -> None:
    await store.create_channel(a_channel())
    assert await store.replace_routes("C1", [Route("r1", ("bot",))], expected=0) == 1
    assert await store.replace_routes("C1", [Route("r2", ("bot",))], expected=1) == 2

    with pytest.raises(Conflict):
        await store.replace_routes("C1", [], expected=1)

    channel = (await store.find_channels(["C1"]))["C1"]
    assert [route.route_id for route in channel.routes] == ["r2"]


async def test_every_revision_of_the_routes_is_kept_with_its_time(store: Store, clock: ManualClock) -> None:
    await store.create_channel(a_channel())
    office = Route("r1", ("bot",), time_windows=(TimeWindow("Europe/Berlin", (1, 2), 540, 1020),), basis_points=1250)
    await store.replace_routes("C1", [office], expected=None)
    first_at = clock.now
    clock.advance(60)
    for number in (2, 3):
        await store.replace_routes("C1", [Route(f"r{number}", ("bot",))], expected=None)

    newest = await store.list_route_revisions("C1", before=None, limit=2)
    oldest = await store.list_route_revisions("C1", before=2, limit=2)

    assert [(each.revision, each.routes[0].route_id) for each in newest] == [(3, "r3"), (2, "r2")]
    assert oldest == [RouteRevision(1, first_at, (office,))]
    assert await store.list_route_revisions("C2", before=None, limit=2) == []


@pytest.mark.parametrize("is_held", [True, False])
async def test_a_channel_with_messages_under_way_is_not_deleted(store: Store, *, is_held: bool) -> None:
    await store.create_channel(a_channel())
    await store.record([a_message("SM1", hold_reason=HoldReason.CHANNEL_PAUSED if is_held else None)])

    with pytest.raises(StillInUse, match="1 that are held" if is_held else "1 messages that are not acknowledged"):
        await store.delete_channel("C1", expected=None)


async def test_a_channel_with_dead_letters_is_not_deleted(store: Store) -> None:
    await store.create_channel(a_channel())
    await store.update_destination("default", lambda settings: replace(settings, max_attempts=1))
    await store.record([a_message("SM1")])
    (delivery,) = (await store.claim("default", limit=1, max_bytes=1, lease_seconds=1)).deliveries
    await store.settle("default", [Settlement(delivery.token, SettlementKind.NACK)])

    with pytest.raises(StillInUse, match="1 dead letters"):
        await store.delete_channel("C1", expected=None)


async def test_a_channel_whose_messages_are_settled_is_deleted_without_a_trace_of_its_credentials(store: Store) -> None:
    channel = await store.create_channel(a_channel())
    await store.record([a_message("SM1")])
    (delivery,) = (await store.claim("default", limit=1, max_bytes=1, lease_seconds=1)).deliveries
    await store.settle("default", [Settlement(delivery.token, SettlementKind.ACK)])

    await store.delete_channel("C1", expected=channel.revision)

    deleted = (await store.find_channels(["C1"]))["C1"]
    assert deleted.state is ChannelState.DELETED
    assert (deleted.credentials.webhook_user, deleted.credentials.password_hash) == ("", "")
    assert await store.find_message("C1", "SM1") is not None


async def test_what_is_not_there_is_neither_changed_nor_deleted(store: Store) -> None:
    channel = await store.create_channel(a_channel())
    await store.delete_channel("C1", expected=None)

    with pytest.raises(NotFound):
        await store.replace_channel(channel)
    with pytest.raises(NotFound):
        await store.replace_routes("C1", [], expected=None)
    with pytest.raises(NotFound):
        await store.delete_channel("C1", expected=None)


async def test_changes_come_in_order_and_page_by_page_until_caught_up(store: Store) -> None:
    for name in ("a", "b", "c"):
        await store.create_channel(a_channel(name))
    await store.replace_routes("a", [], expected=None)

    first = await store.find_changes(None, limit=2)
    second = await store.find_changes(first.position, limit=2)

    assert [channel.channel_config_id for channel in first.channels] == ["b", "c"]
    assert not first.caught_up
    assert [channel.channel_config_id for channel in second.channels] == ["a"]
    assert second.caught_up
    assert second.position.revision == second.channels[0].revision
    assert (first.is_reset, second.is_reset) == (True, False)


async def test_a_deletion_is_a_change_too(store: Store) -> None:
    await store.create_channel(a_channel())
    position = (await store.find_changes(None, limit=10)).position
    await store.delete_channel("C1", expected=None)

    (change,) = (await store.find_changes(position, limit=10)).channels

    assert change.state is ChannelState.DELETED


@pytest.mark.parametrize("ahead", [True, False])
async def test_who_follows_another_directory_starts_from_the_beginning(store: Store, *, ahead: bool) -> None:
    await store.create_channel(a_channel())
    here = (await store.find_changes(None, limit=10)).position
    elsewhere = here._replace(revision=here.revision + 1) if ahead else DirectoryPosition("another", 0)

    changes = await store.find_changes(elsewhere, limit=10)

    assert len(changes.channels) == 1
    assert (changes.position, changes.is_reset) == (here, True)


async def test_who_followed_changes_that_were_lost_starts_from_the_beginning(store: Store, clock: ManualClock) -> None:
    empty = (await store.find_changes(None, limit=10)).position
    await store.create_channel(a_channel("a"))
    clock.advance(1)
    lost = empty._replace(revision=clock.now)
    clock.advance(1)
    await store.create_channel(a_channel("b"))

    after_loss = await store.find_changes(lost, limit=10)
    after_nothing = await store.find_changes(empty, limit=10)

    assert ([channel.channel_config_id for channel in after_loss.channels], after_loss.is_reset) == (["a", "b"], True)
    assert (len(after_nothing.channels), after_nothing.is_reset) == (2, False)


async def test_who_followed_what_an_empty_store_has_lost_starts_from_the_beginning(
    store: Store, clock: ManualClock
) -> None:
    empty = (await store.find_changes(None, limit=10)).position
    clock.advance(-1)
    lost = empty._replace(revision=clock.now)
    clock.advance(2)
    await store.create_channel(a_channel())

    assert (await store.find_changes(lost, limit=10)).is_reset


async def test_a_revision_is_the_time_of_its_change_and_grows_when_the_clock_does_not(
    store: Store, clock: ManualClock
) -> None:
    first = await store.create_channel(a_channel("a"))
    second = await store.create_channel(a_channel("b"))
    clock.advance(1)
    third = await store.replace_channel(first)

    assert [first.revision, second.revision, third.revision] == [clock.now - 1_000_000, clock.now - 999_999, clock.now]
