"""The one thread that writes: everything that is asked for while it commits is its next transaction.

So one fdatasync serves as many callers as there are, and a lone caller waits for nobody. Where commits would follow
each other faster than once a millisecond, they wait for company.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

import apsw

from service.errors import GatewayError, StoreUnavailable
from service.store.contract import Clock, StoreListener

log = logging.getLogger(__name__)
T = TypeVar("T")

DEADLINE_SECONDS = 1.5
"""The innermost deadline of design 6.8."""

SECONDS_BETWEEN_COMMITS = 0.001
"""Between the beginnings of two that are synced. A transaction costs as much as a dozen messages in it."""

MOST_WAITING = 2000
MOST_IN_A_TRANSACTION = 256


@dataclass(slots=True)
class Transaction:
    """What an operation works in: the connection, the time, and what the listener is to hear of."""

    connection: apsw.Connection
    now: int
    ready: set[str] = field(default_factory=set)
    arrivals: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    directory_changed: bool = False
    remembered: dict[str, Any] = field(default_factory=dict)
    """What was looked up and holds until the end of the transaction."""
    before_commit: dict[Callable[[Transaction], None], None] = field(default_factory=dict)
    """What is to be done once, in this order, whoever of the transaction's operations asked for it."""


class Operation(NamedTuple, Generic[T]):
    """Something to do in a transaction. It raises a `GatewayError` before its first write or not at all."""

    run: Callable[[Transaction], T]
    is_durable: bool
    result: asyncio.Future[T]


class Outcome(NamedTuple):
    """What an operation came to."""

    operation: Operation[Any]
    value: Any
    error: BaseException | None


class Writer:
    """Runs operations in order, many in a transaction, on a thread of its own.

    Made on the event loop that its callers live on. Takes over the connection and closes it.
    """

    def __init__(self, connection: apsw.Connection, clock: Clock, last_at: int) -> None:
        self._connection = connection
        self._clock = clock
        self._last_at = last_at
        self._is_durable = True
        self._next_commit_at = 0.0
        self._listeners: list[StoreListener] = []
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[Operation[Any] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="sqlite-writer", daemon=True)
        self._thread.start()

    def listen(self, listener: StoreListener) -> None:
        """Let `listener` hear of every commit, on the event loop."""
        self._listeners.append(listener)

    async def run(self, operation: Callable[[Transaction], T], *, is_durable: bool = True) -> T:
        """Run an operation and return its result once it is committed (and, if durable, on disk).

        An operation that has not begun when its caller gives up is not run. Raises
        `StoreUnavailable` after 1.5 s: then the operation may still come to be.
        """
        if not self._thread.is_alive():
            raise StoreUnavailable("the store is closed; retry when the service is back")
        if self._queue.qsize() >= MOST_WAITING:
            raise StoreUnavailable("the store has too much waiting; retry")
        result: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(Operation(operation, is_durable, result))
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await result
        except TimeoutError:
            raise StoreUnavailable(f"the store took longer than {DEADLINE_SECONDS} s; retry") from None

    async def close(self) -> None:
        """Do what is waiting, then close the connection. A repeat does nothing."""
        if self._thread.is_alive():
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        is_open = True
        while is_open:
            group = [self._queue.get()]
            self._wait_for_company(group[0])
            while len(group) < MOST_IN_A_TRANSACTION and not self._queue.empty():
                group.append(self._queue.get())
            is_open = None not in group
            wanted = [operation for operation in group if operation is not None]
            if wanted:
                self._run_group(wanted)
        self._refuse_the_rest()
        self._connection.close()

    def _wait_for_company(self, first: Operation[Any] | None) -> None:
        """Wait until a commit may begin. What needs no sync, such as a claim, waits for nobody."""
        if first is None or not first.is_durable:
            return
        now = time.monotonic()
        if now < self._next_commit_at:
            time.sleep(self._next_commit_at - now)
        self._next_commit_at = max(now, self._next_commit_at) + SECONDS_BETWEEN_COMMITS

    def _refuse_the_rest(self) -> None:
        while not self._queue.empty():
            operation = self._queue.get()
            if operation is not None:
                self._settle([Outcome(operation, None, StoreUnavailable("the store is closed; retry elsewhere"))])

    def _run_group(self, group: Sequence[Operation[Any]]) -> None:
        """Run a group in one transaction; when one of it breaks, each in its own."""
        try:
            outcomes, transaction = self._transact(group)
        except Exception as error:  # noqa: BLE001 - handed to the callers, who are told apart below
            if len(group) > 1 and not isinstance(error, CommitFailed):
                for operation in group:
                    self._run_group([operation])
            else:
                self._settle([Outcome(operation, None, _in_our_words(error)) for operation in group])
        else:
            self._settle(outcomes, transaction)

    def _transact(self, group: Sequence[Operation[Any]]) -> tuple[Sequence[Outcome], Transaction]:
        connection = self._connection
        self._last_at = max(self._last_at, self._clock())
        transaction = Transaction(connection, self._last_at)
        self._set_durable(any(operation.is_durable for operation in group))
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = [_attempt(operation, transaction) for operation in group]
            for finish in transaction.before_commit:
                finish(transaction)
            _commit(connection)
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return outcomes, transaction

    def _set_durable(self, is_durable: bool) -> None:
        # A later durable commit syncs the same file, and with it what came before.
        if is_durable is not self._is_durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            self._is_durable = is_durable

    def _settle(self, outcomes: Sequence[Outcome], committed: Transaction | None = None) -> None:
        # In one go: the loop takes the interpreter when it is woken, and a second call would wait until it sleeps.
        self._loop.call_soon_threadsafe(self._tell, outcomes, committed)

    def _tell(self, outcomes: Sequence[Outcome], committed: Transaction | None) -> None:
        _resolve(outcomes)
        if committed:
            for listener in self._listeners:
                _announce(committed, listener)


class CommitFailed(Exception):
    """The commit itself failed: nothing of the group is stored, and trying each alone won't help."""


def _attempt(operation: Operation[Any], transaction: Transaction) -> Outcome:
    if operation.result.cancelled():
        return Outcome(operation, None, None)
    try:
        return Outcome(operation, operation.run(transaction), None)
    except GatewayError as error:
        return Outcome(operation, None, error)


def _commit(connection: apsw.Connection) -> None:
    try:
        connection.execute("COMMIT")
    except apsw.Error as error:
        raise CommitFailed(str(error)) from error


def _in_our_words(error: Exception) -> Exception:
    if isinstance(error, apsw.Error | CommitFailed):
        unavailable = StoreUnavailable("the store can't commit; retry")
        unavailable.__cause__ = error
        return unavailable
    return error


def _announce(committed: Transaction, listener: StoreListener) -> None:
    if committed.ready:
        listener.on_ready(committed.ready)
    if committed.arrivals:
        listener.on_arrivals(committed.arrivals)
    if committed.dead_letters:
        listener.on_dead_letters(committed.dead_letters)
    if committed.directory_changed:
        listener.on_directory_change()


def _resolve(outcomes: Sequence[Outcome]) -> None:
    for operation, value, error in outcomes:
        if operation.result.done():
            continue  # its caller has gone
        if error is None:
            operation.result.set_result(value)
        else:
            operation.result.set_exception(error)


def microseconds(seconds: float) -> int:
    """Return a time span as the store counts it."""
    return round(seconds * 1_000_000)
