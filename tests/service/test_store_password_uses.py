"""The contract of a store: when passwords were last used."""

from __future__ import annotations

from dataclasses import replace

from service.models import Credentials, PasswordUse
from service.store.contract import Store
from tests.service.builders import ManualClock, a_channel

FIRST, SECOND, STRONGER = "$first", "$second", "$stronger"
BEFORE = Credentials("user", FIRST)
ROTATED = Credentials("user", SECOND, FIRST, 2**60, revision=2)


def use(phc: str, used_at: int, channel: str = "C1") -> PasswordUse:
    return PasswordUse(channel, Credentials("user", phc).password_id, used_at)


async def last_uses(store: Store, channel: str = "C1") -> dict[str, int]:
    """When the passwords were used, by their hashes."""
    names = {Credentials("user", phc).password_id: phc for phc in (FIRST, SECOND, STRONGER)}
    return {names[each.password_id]: each.used_at for each in await store.find_password_uses(channel)}


async def change(store: Store, credentials: Credentials) -> None:
    channel = (await store.find_channels(["C1"]))["C1"]
    await store.replace_channel(replace(channel, credentials=credentials))


async def test_the_latest_use_of_each_password_stays(store: Store, clock: ManualClock) -> None:
    await store.create_channel(a_channel(credentials=ROTATED))
    now = clock.now
    await store.note_password_uses([use(FIRST, now - 9), use(SECOND, now - 5)])
    await store.note_password_uses([use(FIRST, now - 3), use(SECOND, now - 7), use(SECOND, now - 8)])

    assert await last_uses(store) == {FIRST: now - 3, SECOND: now - 5}
    assert await last_uses(store, "C2") == {}


async def test_what_is_not_the_channels_own_is_left_out(store: Store, clock: ManualClock) -> None:
    await store.create_channel(a_channel(credentials=BEFORE))
    await store.note_password_uses([use(SECOND, clock.now), use(FIRST, clock.now, "C2"), use(FIRST, 7)])

    assert await last_uses(store) == {FIRST: 7}
    assert await last_uses(store, "C2") == {}


async def test_a_use_to_come_is_one_of_now(store: Store, clock: ManualClock) -> None:
    await store.create_channel(a_channel(credentials=BEFORE))
    await store.note_password_uses([use(FIRST, clock.now + 3_600_000_000)])

    assert await last_uses(store) == {FIRST: clock.now}


async def test_a_use_is_no_change_of_the_directory(store: Store, clock: ManualClock) -> None:
    await store.create_channel(a_channel(credentials=BEFORE))
    before = (await store.find_changes(None, limit=10)).position
    await store.note_password_uses([use(FIRST, clock.now)])

    after = await store.find_changes(before, limit=10)

    assert (list(after.channels), after.position) == ([], before)


async def test_a_rotation_keeps_what_is_known_of_the_old_password_until_it_is_gone(store: Store) -> None:
    await store.create_channel(a_channel(credentials=BEFORE))
    await store.note_password_uses([use(FIRST, 5)])
    await change(store, ROTATED)
    await store.note_password_uses([use(SECOND, 6)])
    assert await last_uses(store) == {FIRST: 5, SECOND: 6}

    await change(store, Credentials("user", SECOND, revision=3))

    assert await last_uses(store) == {SECOND: 6}


async def test_a_password_that_is_hashed_anew_is_the_same_one(store: Store) -> None:
    await store.create_channel(a_channel(credentials=BEFORE))
    await store.note_password_uses([use(FIRST, 5)])
    await change(store, replace(BEFORE, password_hash=STRONGER))
    await store.note_password_uses([use(FIRST, 9)])  # of who doesn't know of it yet

    assert await last_uses(store) == {STRONGER: 5}


async def test_another_change_forgets_nothing(store: Store) -> None:
    await store.create_channel(a_channel(credentials=BEFORE))
    await store.note_password_uses([use(FIRST, 5)])
    await change(store, replace(BEFORE, webhook_user="another", revision=2))
    await store.replace_routes("C1", [], expected=None)

    assert await last_uses(store) == {FIRST: 5}


async def test_a_deleted_channel_leaves_nothing(store: Store) -> None:
    await store.create_channel(a_channel(credentials=BEFORE))
    await store.note_password_uses([use(FIRST, 5)])
    await store.delete_channel("C1", expected=None)
    await store.note_password_uses([use(FIRST, 6), PasswordUse("C1", Credentials("", "").password_id, 7)])

    assert await store.find_password_uses("C1") == []
