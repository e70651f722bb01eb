"""The contract of a store: what a channel makes of signatures, its sealed secrets, and what was counted of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from service.errors import Conflict
from service.models import AuditEntry, SecretKind, SignatureCheck, SignatureCount, SignatureResult, SignatureSecret
from service.store.contract import Store
from tests.service.builders import a_channel

TOKEN = SignatureSecret("one", SecretKind.AUTH_TOKEN, 17, b"gAAA-sealed_one==")
SHARED = SignatureSecret("two", SecretKind.SHARED_KEY, 18, b"gAAA-sealed_two==")
OBSERVED: dict[str, Any] = {"signature_check": SignatureCheck.OBSERVE, "signature_secrets": (TOKEN, SHARED)}


def count(result: SignatureResult, number: int = 1, at: int = 0, channel: str = "C1") -> SignatureCount:
    return SignatureCount(channel, result, number, at)


async def counted(store: Store, channel: str = "C1") -> dict[SignatureResult, tuple[int, int]]:
    return {each.result: (each.count, each.last_at) for each in await store.find_signature_counts(channel)}


async def test_a_channel_keeps_its_check_and_its_sealed_secrets(store: Store) -> None:
    created = await store.create_channel(a_channel(**OBSERVED))
    changed = await store.replace_channel(replace(created, signature_check=SignatureCheck.ENFORCE))

    assert await store.find_channels(["C1"]) == {"C1": changed}
    assert (changed.signature_check, changed.signature_secrets) == (SignatureCheck.ENFORCE, (TOKEN, SHARED))


async def test_a_deleted_channel_has_no_secrets(store: Store) -> None:
    await store.create_channel(a_channel(**OBSERVED))
    await store.delete_channel("C1", expected=None)

    assert (await store.find_channels(["C1"]))["C1"].signature_secrets == ()


async def test_a_change_is_written_down_with_its_channel_or_not_at_all(store: Store) -> None:
    entry = AuditEntry("ann", "signature-secret-add", {"channel": "C1"})
    created = await store.create_channel(a_channel())
    await store.replace_channel(created, entry=entry)
    with pytest.raises(Conflict):
        await store.replace_channel(created, entry=entry)

    (written,) = await store.list_audit(entry.action, before=None, limit=10)

    assert (written.actor, written.details) == ("ann", {"channel": "C1"})


async def test_counts_add_up_and_the_last_time_is_the_latest(store: Store) -> None:
    await store.create_channel(a_channel(**OBSERVED))
    await store.add_signature_counts([count(SignatureResult.VALID, 3, 20), count(SignatureResult.MISSING, 1, 5)])
    await store.add_signature_counts([count(SignatureResult.VALID, 2, 10)])

    assert await counted(store) == {SignatureResult.VALID: (5, 20), SignatureResult.MISSING: (1, 5)}


async def test_nothing_is_counted_of_channels_that_are_unknown_or_look_at_no_signature(store: Store) -> None:
    await store.create_channel(a_channel())
    await store.add_signature_counts([count(SignatureResult.VALID), count(SignatureResult.VALID, channel="C2")])

    assert await counted(store) == await counted(store, "C2") == {}


async def test_counting_begins_anew_when_the_check_or_the_secrets_change_but_not_when_they_are_resealed(
    store: Store,
) -> None:
    channel = await store.create_channel(a_channel(**OBSERVED))
    await store.add_signature_counts([count(SignatureResult.MISMATCH)])

    channel = await store.replace_channel(replace(channel, signature_secrets=(replace(TOKEN, sealed=b"x"), SHARED)))
    assert await counted(store)
    channel = await store.replace_channel(replace(channel, signature_secrets=(SHARED,)))
    assert not await counted(store)
    await store.add_signature_counts([count(SignatureResult.VALID)])
    await store.replace_channel(replace(channel, signature_check=SignatureCheck.ENFORCE))
    assert not await counted(store)


async def test_a_change_of_something_else_leaves_the_counts(store: Store) -> None:
    channel = await store.create_channel(a_channel(**OBSERVED))
    await store.add_signature_counts([count(SignatureResult.VALID)])
    await store.replace_channel(replace(channel, destination="other"))

    assert await counted(store) == {SignatureResult.VALID: (1, 0)}
