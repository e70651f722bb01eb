"""Transactions: begun with their time-outs, repeated where that is safe, and announced after their commit.

Whatever becomes of an operation is known within 1.5 s, or it is `StoreUnavailable`.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from service.errors import GatewayError, StoreUnavailable
from service.store.contract import Clock
from service.store.postgres.changes import Changes
from service.store.postgres.pool import LOST, Pool

if TYPE_CHECKING:
    from service.store.postgres.pool import Connection

T = TypeVar("T")

DEADLINE_SECONDS = 1.5
"""The innermost deadline of design 6.8."""

COUNT_SECONDS = 30.0
"""Of a count, which nobody waits for so long. What is open for longer keeps the server from cleaning up."""

MOST_ATTEMPTS = 8
LONGEST_PAUSE_SECONDS = 0.05
MOST_REPORTS = 3

# Set in each transaction, since a pooler in transaction mode hands out other connections. They end before the deadline,
# so that nothing of what was given up goes on for long; but locks are waited for until a deadlock would be found.
TIME_OUTS = """;
SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock};
SET LOCAL idle_in_transaction_session_timeout = {idle}
"""
# What writes looks up rows by their keys, however many there are. Where a table has grown faster than its statistics, a
# plan that scans would look cheaper, and would be kept.
BEGIN = """BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"""
NOT_SYNCED = "; SET LOCAL synchronous_commit = off"
# Every look inside sees the same moment.
BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

COMMIT = "COMMIT"
# A transaction that has written nothing commits without waiting; this one has, and everything before it is safe, too.
COMMIT_AFTER_OTHERS = "SELECT pg_logical_emit_message(true, 'mo', ''); COMMIT"

NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

UNTOLD = -1

RETRIED = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class Outrun(Exception):
    """Another transaction has overtaken this one: it is rolled back, and its operation runs again."""


@dataclass(slots=True)
class Transaction:
    """What an operation works in: the connection, the time, and what the listener is to hear of.

    `now` is the database's time, at the beginning of the transaction. An operation may run more than
    once (`attempt` counts from 1), each time in a transaction of its own, so it changes nothing but the database.
    """

    connection: Connection
    now: int
    attempt: int = 1
    ready: set[str] = field(default_factory=set)
    arrivals: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    directory_changed: bool = False
    answers_by_others: bool = False
    """Whether the caller is told that something is stored which another transaction has committed. That can be seen
    when it is on this server alone: where who committed it gave up the wait for the standby. So this one waits."""
    remembered: dict[str, Any] = field(default_factory=dict)
    """What was looked up and holds until the end of the transaction."""


class Sessions:
    """Runs operations in transactions of their own, as many at once as the pool has connections.

    `clock` tells the time instead of the database.
    """

    def __init__(
        self,
        pool: Pool,
        announce: Callable[[Transaction], None],
        clock: Clock | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._pool = pool
        self._announce = announce
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        time_outs = _time_outs(round(deadline_seconds * 1000))
        self._begin = BEGIN + time_outs
        self._begin_reading = BEGIN_READING + time_outs
        self._begin_counting = BEGIN_READING + _time_outs(round(COUNT_SECONDS * 1000))
        self._reporting = asyncio.Semaphore(MOST_REPORTS)
        self._changes = Changes(self.run)

    async def run(
        self, operation: Callable[[Transaction], Awaitable[T]], *, is_durable: bool = True, tells_time: bool = False
    ) -> T:
        """Run an operation and return its result once it is committed (and, if durable, on disk).

        A `GatewayError` of it rolls everything back. Raises `StoreUnavailable` after the deadline, or when
        the connection is lost: then the operation may still come to be. With `tells_time`, its first
        statement selects `NOW` too, and it sets `now` where that is `UNTOLD`: a round trip less.
        """
        begin = self._begin if is_durable else self._begin + NOT_SYNCED
        return await self._in_time(lambda attempt: self._write(begin, operation, attempt, tells_time))

    async def change(self, operation: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do as `run` does, for operations that wait for each other anyway: one after the other, together."""
        return await self._in_time(lambda _: self._changes.apply(operation))

    async def read(self, look: Callable[[Transaction], Awaitable[T]]) -> T:
        """Return what `look` finds, all of it as of one moment. It can't write."""
        return await self._in_time(lambda attempt: self._look(look, attempt, self._begin_reading))

    async def report(self, look: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do as `read` does, for a look that may take long: few of those run at once, and leave room for others."""
        return await self._in_time(lambda attempt: self._report(look, attempt, self._begin_reading))

    async def count(self, look: Callable[[Transaction], Awaitable[T]]) -> T:
        """Do as `report` does, for a look that may take `COUNT_SECONDS`; one at a time, the caller sees to that."""
        return await self._in_time(lambda attempt: self._report(look, attempt, self._begin_counting), COUNT_SECONDS)

    async def _in_time(self, attempt: Callable[[int], Awaitable[T]], deadline_seconds: float | None = None) -> T:
        deadline_seconds = deadline_seconds or self._deadline_seconds
        try:
            async with asyncio.timeout(deadline_seconds):
                return await self._repeat(attempt)
        except TimeoutError:
            raise StoreUnavailable(f"the store took longer than {deadline_seconds:g} s; retry") from None
        except (asyncpg.PostgresError, *LOST) as error:
            raise StoreUnavailable(_in_our_words(error)) from error

    async def _repeat(self, attempt: Callable[[int], Awaitable[T]]) -> T:
        """Try until nothing gets in the way that another try may not meet. What may be committed isn't tried again."""
        for number in range(1, MOST_ATTEMPTS):
            try:
                return await attempt(number)
            except (Outrun, *RETRIED, *LOST):
                await asyncio.sleep(random.random() * LONGEST_PAUSE_SECONDS)  # noqa: S311 - spreads load, hides nothing
        try:
            return await attempt(MOST_ATTEMPTS)
        except Outrun:
            raise StoreUnavailable("the store is overtaken again and again; retry") from None

    async def _write(
        self, begin: str, operation: Callable[[Transaction], Awaitable[T]], attempt: int, tells_time: bool
    ) -> T:
        async with self._pool.connection() as connection:
            transaction, result = await self._work(connection, begin, operation, attempt, tells_time)
            await _commit(connection, COMMIT_AFTER_OTHERS if transaction.answers_by_others else COMMIT)
        self._announce(transaction)
        return result

    async def _look(self, look: Callable[[Transaction], Awaitable[T]], attempt: int, begin: str) -> T:
        async with self._pool.connection() as connection:
            _, result = await self._work(connection, begin, look, attempt, tells_time=False)
            await connection.execute("COMMIT")
        return result

    async def _report(self, look: Callable[[Transaction], Awaitable[T]], attempt: int, begin: str) -> T:
        async with self._reporting:
            return await self._look(look, attempt, begin)

    async def _work(
        self,
        connection: Connection,
        begin: str,
        operation: Callable[[Transaction], Awaitable[T]],
        attempt: int,
        tells_time: bool,
    ) -> tuple[Transaction, T]:
        await connection.execute(begin)
        try:
            transaction = Transaction(connection, self._clock() if self._clock else UNTOLD, attempt)
            if transaction.now == UNTOLD and not tells_time:
                transaction.now = await connection.fetchval(f"SELECT {NOW}")
            return transaction, await operation(transaction)
        except (GatewayError, Outrun, asyncpg.PostgresError):
            if not connection.is_closed():
                await connection.execute("ROLLBACK")
            raise


async def _commit(connection: Connection, commit: str) -> None:
    """Commit, or raise `StoreUnavailable` since nobody knows.

    Never cancelled: that would end the wait for a synchronous standby as if it had answered. Who gives up closes the
    connection instead, and PostgreSQL goes on waiting. (Its own time-outs don't count while it commits.)
    """
    committing = asyncio.ensure_future(connection.execute(commit))
    try:
        outcome = await asyncio.shield(committing)
    except asyncio.CancelledError:
        connection.terminate()
        await asyncio.gather(committing, return_exceptions=True)
        raise
    except (asyncpg.PostgresError, *LOST) as error:
        connection.terminate()
        raise StoreUnavailable("the store was lost while it committed; retry") from error
    if outcome != "COMMIT":  # that is how PostgreSQL answers where a statement had failed
        raise StoreUnavailable("the store has rolled back; retry")


def _in_our_words(error: Exception) -> str:
    if isinstance(error, LOST):
        return "the store can't be reached; retry"
    if isinstance(error, asyncpg.LockNotAvailableError | asyncpg.QueryCanceledError):
        return "the store took too long; retry"
    return "the store can't commit; retry"


def _time_outs(deadline: int) -> str:
    """Return the statements that set the time-outs within a deadline in milliseconds."""
    return TIME_OUTS.format(statement=deadline - 100, lock=deadline - 200, idle=deadline + 500)


def microseconds(seconds: float) -> int:
    """Return a time span as the store counts it."""
    return round(seconds * 1_000_000)
