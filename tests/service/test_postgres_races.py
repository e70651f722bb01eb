"""What claims and acknowledgements meet when another replica is quicker: each race, held at its narrowest point."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from service.models import AckStatus, Conversation, Settlement, SettlementKind
from service.store.postgres import PostgresStore, claims, lanes
from tests.postgres_server import Databases
from tests.service.builders import ManualClock, a_message
from tests.service.deliveries import deliver_all, settle, take
from tests.service.patience import open_patiently

GATE = 1
"""An advisory lock, where the slower one waits."""

AT_THE_GATE = "(SELECT pg_advisory_xact_lock_shared($GATE)) IS NOT NULL".replace("$GATE", str(GATE))

WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


@pytest.fixture
async def dsn(postgres: Databases) -> AsyncIterator[str]:
    async with postgres.database() as made:
        yield made


@pytest.fixture
async def replicas(dsn: str, clock: ManualClock) -> AsyncIterator[Sequence[PostgresStore]]:
    opened = [await open_patiently(dsn, clock) for _ in range(2)]
    yield opened
    for replica in opened:
        await replica.close()


@pytest.fixture
async def gate(dsn: str) -> AsyncIterator[Gate]:
    connection = await asyncpg.connect(dsn)
    yield Gate(connection)
    await connection.close()


class Gate:
    """Holds up the statements that are made to pass it."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def shut(self) -> None:
        await self._connection.execute("SELECT pg_advisory_lock($1)", GATE)

    async def are_waiting(self, number: int) -> None:
        """Return when so many wait, here or for a conversation."""
        waiting = 0
        while waiting < number:
            waiting = await self._connection.fetchval(WAITING)

    async def open(self) -> None:
        await self._connection.execute("SELECT pg_advisory_unlock($1)", GATE)


def held_up(lease: str) -> str:
    """Return the statement with the gate in the way of each lane that is due."""
    due = "due_at <= (SELECT now FROM clock)"
    assert due in lease
    return lease.replace(due, f"{due} AND {AT_THE_GATE}")


async def test_a_claim_reads_what_came_into_a_conversation_since_it_began(
    replicas: Sequence[PostgresStore], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = replicas
    await quick.record([a_message("SM1", payload=b"first")])
    (first,) = await take(quick)
    await settle(quick, SettlementKind.RETURN, first)
    await gate.shut()
    usual = claims.LEASE
    monkeypatch.setattr(claims, "LEASE", held_up(usual))
    claim = asyncio.create_task(slow.claim("default", limit=10, max_bytes=10**6, lease_seconds=60.0))
    await gate.are_waiting(1)

    monkeypatch.setattr(claims, "LEASE", usual)
    await deliver_all(quick)
    await quick.record([a_message("SM2", payload=b"second")])
    await gate.open()
    claimed = await claim

    assert [(each.payload, each.attempt) for each in claimed.deliveries] == [(b"second", 1)]
    await settle(slow, SettlementKind.ACK, *claimed.deliveries)
    assert not await take(quick)


async def test_a_claim_leaves_what_another_replica_has_taken_since_it_began(
    replicas: Sequence[PostgresStore], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = replicas
    await quick.record([a_message("SM1"), a_message("SM2")])
    await gate.shut()
    usual = claims.LEASE
    monkeypatch.setattr(claims, "LEASE", held_up(usual))
    claim = asyncio.create_task(slow.claim("default", limit=10, max_bytes=10**6, lease_seconds=60.0))
    await gate.are_waiting(1)

    monkeypatch.setattr(claims, "LEASE", usual)
    (taken,) = await take(quick)
    await gate.open()

    assert not (await claim).deliveries
    await settle(quick, SettlementKind.ACK, taken)
    assert [delivery.sequence for delivery in await deliver_all(slow)] == [2]


async def test_an_acknowledgement_lets_go_on_who_began_to_wait_for_it_meanwhile(
    replicas: Sequence[PostgresStore], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = replicas
    await quick.record([a_message("SM1", destinations=("bot",)), a_message("SM2", destinations=("bot",))])
    (out,) = await take(quick, "bot")
    await gate.shut()
    usual = lanes.LOCK
    monkeypatch.setattr(lanes, "LOCK", usual.replace("WHERE id = ANY", f"WHERE {AT_THE_GATE} AND id = ANY", 1))
    acknowledgement = asyncio.create_task(slow.settle("bot", [Settlement(out.token, SettlementKind.ACK)]))
    await gate.are_waiting(1)

    monkeypatch.setattr(lanes, "LOCK", usual)
    await quick.assign(Conversation("C1", "whatsapp:+1"), "agents", ttl_seconds=60)
    assert not await take(quick, "agents")
    await gate.open()

    assert await acknowledgement == [AckStatus.OK]
    assert [delivery.sequence for delivery in await deliver_all(quick, "agents")] == [2]


async def test_what_is_assigned_while_another_replica_records_it_arrives_where_it_was_assigned(
    replicas: Sequence[PostgresStore], gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = replicas
    await quick.record([a_message("SM1", destinations=("bot",))])
    await gate.shut()
    usual = lanes.APPEND
    monkeypatch.setattr(
        lanes, "APPEND", usual.replace("FROM unnest($1::text[]", f"FROM (SELECT {AT_THE_GATE}) g, unnest($1::text[]", 1)
    )
    record = asyncio.create_task(slow.record([a_message("SM2", destinations=("bot",))]))
    await gate.are_waiting(1)

    monkeypatch.setattr(lanes, "APPEND", usual)
    assignment = asyncio.create_task(quick.assign(Conversation("C1", "whatsapp:+1"), "agents", ttl_seconds=60))
    await asyncio.wait([assignment, asyncio.create_task(gate.are_waiting(2))], return_when=asyncio.FIRST_COMPLETED)
    assert not assignment.done()
    await gate.open()
    await record

    assert (await assignment).moved == 2
    assert [delivery.sequence for delivery in await deliver_all(quick, "agents")] == [1, 2]
    assert await deliver_all(quick, "bot") == []
