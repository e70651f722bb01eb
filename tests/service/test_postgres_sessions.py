"""Transactions on PostgreSQL: what is repeated, what never is, and that an answer comes in time whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import pytest

from service.errors import NotFound, StoreUnavailable
from service.models import Conversation
from service.store.postgres import conversations
from service.store.postgres.pool import Pool
from service.store.postgres.server import Server
from service.store.postgres.session import Outrun, Sessions, Transaction
from tests.service.patience import once_available
from tests.service.transactions import MAKE_TABLE, add, end_connections, execute, opened, select_1, stored

# A row that the server can't commit: it ends the connection while it tries.
BREAK_AT_COMMIT = """
CREATE FUNCTION break_connection() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER breaks AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION break_connection();
"""


@pytest.fixture
async def sessions(dsn: str) -> AsyncIterator[Sessions]:
    await execute(dsn, MAKE_TABLE)
    async with opened(dsn) as made:
        yield made


async def test_an_error_of_ours_rolls_back_and_reaches_the_caller(sessions: Sessions) -> None:
    async def refuse(transaction: Transaction) -> None:
        await add(transaction, 1)
        raise NotFound("not there")

    with pytest.raises(NotFound):
        await sessions.run(refuse)

    assert await stored(sessions) == []


async def test_what_postgresql_has_rolled_back_is_no_success(sessions: Sessions) -> None:
    async def overlook_a_failure(transaction: Transaction) -> None:
        await add(transaction, 1)
        with pytest.raises(asyncpg.UniqueViolationError):
            await add(transaction, 1)

    with pytest.raises(StoreUnavailable, match="rolled back"):
        await sessions.run(overlook_a_failure)

    assert await stored(sessions) == []


async def test_a_look_cannot_write(sessions: Sessions) -> None:
    with pytest.raises(StoreUnavailable):
        await sessions.read(lambda transaction: add(transaction, 1))

    assert await stored(sessions) == []


async def test_who_is_outrun_runs_again_in_a_new_transaction(sessions: Sessions) -> None:
    async def lose_twice(transaction: Transaction) -> int:
        await add(transaction, 1)
        if transaction.attempt < 3:
            raise Outrun
        return transaction.attempt

    assert await sessions.run(lose_twice) == 3
    assert await stored(sessions) == [1]


async def test_a_deadlock_is_one_of_two_running_again(sessions: Sessions) -> None:
    attempts: list[int] = []
    both_hold_one = asyncio.Barrier(2)

    async def lock(transaction: Transaction, first: int, second: int) -> None:
        attempts.append(transaction.attempt)
        await transaction.connection.execute("SELECT pg_advisory_xact_lock($1)", first)
        if transaction.attempt == 1:
            await both_hold_one.wait()
        await transaction.connection.execute("SELECT pg_advisory_xact_lock($1)", second)

    await asyncio.gather(
        sessions.run(lambda transaction: lock(transaction, 1, 2)),
        sessions.run(lambda transaction: lock(transaction, 2, 1)),
    )

    assert sorted(attempts) == [1, 1, 2]


async def test_an_operation_whose_connection_is_lost_runs_again(sessions: Sessions, dsn: str) -> None:
    async def lose_connection(transaction: Transaction) -> int:
        await add(transaction, 1)
        if transaction.attempt == 1:
            await end_connections(dsn)
        return await add(transaction, 2)

    assert await sessions.run(lose_connection) == 2
    assert await stored(sessions) == [1, 2]


async def test_idle_connections_that_were_closed_by_the_server_are_no_failure(sessions: Sessions, dsn: str) -> None:
    await asyncio.gather(*(sessions.run(partial(add, number=number)) for number in range(4)))
    await end_connections(dsn)

    await sessions.run(lambda transaction: add(transaction, 4))

    assert await stored(sessions) == [0, 1, 2, 3, 4]


async def test_what_is_lost_while_it_commits_is_never_run_again(sessions: Sessions, dsn: str) -> None:
    await execute(dsn, BREAK_AT_COMMIT)
    attempts: list[int] = []

    async def count(transaction: Transaction) -> None:
        attempts.append(await add(transaction, 1))

    with pytest.raises(StoreUnavailable, match="while it committed"):
        await sessions.run(count)
    assert attempts == [1]


async def test_what_takes_too_long_is_ended_and_its_connection_is_good_again(dsn: str) -> None:
    async with opened(dsn, size=1, deadline_seconds=1.5) as sessions:
        with pytest.raises(StoreUnavailable, match=r"too long|took longer"):
            await sessions.run(lambda transaction: transaction.connection.execute("SELECT pg_sleep(1000)"))

        assert await once_available(lambda: sessions.read(select_1)) == 1


async def test_as_many_as_there_are_connections_run_at_once(dsn: str) -> None:
    both_run = asyncio.Barrier(2)
    running = 0
    most = 0

    async def count(_: Transaction) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await both_run.wait()
        running -= 1

    async with opened(dsn, size=2) as sessions:
        await asyncio.gather(*(sessions.run(count) for _ in range(6)))

    assert most == 2


async def test_a_closed_store_says_so(dsn: str) -> None:
    pool = Pool(Server(dsn).connect, 1)
    await pool.close()
    await pool.close()

    with pytest.raises(StoreUnavailable, match="closed"):
        await Sessions(pool, announce=lambda _: None).read(lambda transaction: add(transaction, 1))


@pytest.mark.parametrize("first", [1, 2**31 - 1, 2**33], ids=["none", "31 bits", "33 bits"])
async def test_what_an_open_intake_may_still_store_is_not_settled(dsn: str, first: int) -> None:
    await execute(dsn, f"ALTER SEQUENCE message_sequence RESTART {first}")
    has_begun, is_enough = asyncio.Event(), asyncio.Event()

    async def take_in(transaction: Transaction) -> None:
        await conversations.share(transaction, [Conversation("C1", "whatsapp:+1")])
        await take_sequence(transaction)
        has_begun.set()
        await is_enough.wait()

    async def take_sequence(transaction: Transaction) -> None:
        await transaction.connection.execute("SELECT nextval('message_sequence')")

    async with opened(dsn) as sessions, asyncio.TaskGroup() as group:
        assert await sessions.read(conversations.settled_until) == first - 1
        intake = group.create_task(sessions.run(take_in))
        await has_begun.wait()
        await sessions.run(take_sequence)
        assert await sessions.read(conversations.settled_until) == first - 1
        is_enough.set()
        await intake
        assert await sessions.read(conversations.settled_until) == first + 1


async def test_long_looks_leave_connections_to_others(dsn: str) -> None:
    three_look, is_enough = asyncio.Event(), asyncio.Event()
    looking = 0

    async def look(_: Transaction) -> None:
        nonlocal looking
        looking += 1
        if looking == 3:
            three_look.set()
        await is_enough.wait()

    async with opened(dsn, size=4) as sessions, asyncio.TaskGroup() as group:
        for _ in range(6):
            group.create_task(sessions.report(look))
        await three_look.wait()
        await sessions.run(lambda transaction: transaction.connection.execute("SELECT 1"))
        assert looking == 3
        is_enough.set()
