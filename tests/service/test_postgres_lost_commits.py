"""What a crash or a failover takes back, and what must not depend on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from service.errors import StoreUnavailable
from service.models import AckStatus, QuarantinedRequest, Settlement, SettlementKind
from service.store.contract import Store
from service.store.postgres import PostgresStore
from tests.postgres_server import running_postgres
from tests.service.builders import a_message
from tests.service.transactions import execute

# What was committed without waiting, as a claim is, is gone after a crash.
TAKE_CLAIM_BACK = "UPDATE lane SET claims = 0, is_leased = false, leased_at = NULL, due_at = 0"


async def _record(store: Store) -> None:
    await store.record([a_message("SM1")])


async def _quarantine(store: Store) -> None:
    await store.quarantine([QuarantinedRequest("Q1", "C1", is_accepted=True, payload=b"request")])


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(dsn)
    yield opened
    await opened.close()


async def test_who_had_a_claim_that_is_lost_cannot_settle_what_another_one_has(store: PostgresStore, dsn: str) -> None:
    await store.record([a_message("SM1")])
    lost = await store.claim("default", limit=1, max_bytes=1_000_000, lease_seconds=60)
    await execute(dsn, TAKE_CLAIM_BACK)
    again = await store.claim("default", limit=1, max_bytes=1_000_000, lease_seconds=60)

    late = await store.settle("default", [Settlement(lost.deliveries[0].token, SettlementKind.ACK)])
    good = await store.settle("default", [Settlement(again.deliveries[0].token, SettlementKind.ACK)])

    assert (late, good) == ([AckStatus.STALE], [AckStatus.OK])


@pytest.mark.parametrize("keep", [_record, _quarantine])
async def test_nothing_is_known_already_before_a_failover_of_postgres_would_keep_it(
    keep: Callable[[Store], Awaitable[None]],
) -> None:
    """What can be seen may be on the primary alone: where who stored it gave up the wait for the standby."""
    with running_postgres(synchronous_standby_names="nobody") as server:
        await execute(server.dsn, "CHECKPOINT")  # from now on commits wait
        first = await PostgresStore.open(f"{server.dsn}?synchronous_commit=local")
        await keep(first)
        await first.close()
        store = await PostgresStore.open(server.dsn)

        with pytest.raises(StoreUnavailable):
            await keep(store)
        await store.close()
