"""The contract of a store: what was done by hand is written down."""

from __future__ import annotations

import pytest

from service.models import AuditEntry, Decision, HoldReason, QuarantinedRequest, Release
from service.store.audit_details import shorten
from service.store.contract import GATEWAY, Store
from tests.service.builders import ManualClock, a_message


async def audited(store: Store, action: str | None = None) -> list[tuple[str, str, dict[str, str]]]:
    entries = await store.list_audit(action, before=None, limit=100)
    return [(entry.actor, entry.action, dict(entry.details)) for entry in entries]


async def test_what_operators_do_is_listed_newest_first_with_who_and_how_many(store: Store, clock: ManualClock) -> None:
    held = await store.record(
        [a_message(sid, hold_reason=HoldReason.UNROUTED, destinations=()) for sid in ("SM1", "SM2", "SM3")]
    )
    await store.quarantine([QuarantinedRequest("q1", "C1", True, b"raw")])
    await store.release([Release(held[0].sequence, Decision(("default",)))], actor="ann")
    clock.advance(1)
    await store.discard([held[1].sequence, held[2].sequence], actor="bob")
    await store.discard_quarantined(["q1"], actor="cay")

    entries = await store.list_audit(None, before=None, limit=10)

    assert [(entry.actor, entry.action) for entry in entries] == [
        ("cay", "quarantine-discard"),
        ("bob", "held-discard"),
        ("ann", "release"),
    ]
    assert [entry.at for entry in entries] == [clock.now, clock.now, clock.now - 1_000_000]
    assert entries[0].details == {"requests": "1"}


async def test_what_does_nothing_is_not_audited(store: Store) -> None:
    await store.discard([17], actor="ann")
    await store.discard_quarantined(["q1"], actor="ann")
    await store.release([Release(17, Decision(("default",)))], actor="ann")
    await store.cancel_replay("none", actor="ann")

    assert await audited(store) == []


async def test_a_retry_that_settles_its_request_is_no_discard(store: Store) -> None:
    await store.quarantine([QuarantinedRequest("q1", "C1", True, b"raw")])
    await store.record([a_message("SM1")], quarantine_entry_id="q1")

    assert await audited(store) == []


async def test_what_nobody_is_named_for_was_done_by_the_gateway(store: Store) -> None:
    await store.quarantine([QuarantinedRequest("q1", "C1", True, b"raw")])
    await store.discard_quarantined(["q1"])

    assert await audited(store) == [(GATEWAY, "quarantine-discard", {"requests": "1"})]


async def test_entries_are_paged_and_filtered_by_action(store: Store) -> None:
    for number in range(5):
        await store.quarantine([QuarantinedRequest(f"q{number}", "C1", True, b"raw")])
        await store.discard_quarantined([f"q{number}"], actor=f"ann{number}")

    found: list[AuditEntry] = []
    before = None
    while page := await store.list_audit("quarantine-discard", before=before, limit=2):
        found += page
        before = page[-1].number

    assert [entry.actor for entry in found] == ["ann4", "ann3", "ann2", "ann1", "ann0"]
    assert await audited(store, "release") == []


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("whatsapp:+447700900123", "whatsapp:+4477…23"),
        ("whatsapp:GB.1a2b3c4d5e6f", "whatsapp:GB.1a…6f"),
        ("whatsapp:+1", "whatsapp:…"),
        ("+447700900123", "+4477…23"),
        ("", "…"),
    ],
)
def test_an_address_is_shortened_so_that_it_reaches_nobody(address: str, shown: str) -> None:
    assert shorten(address) == shown
