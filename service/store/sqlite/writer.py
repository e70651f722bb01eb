"""The one thread that writes: everything that is asked for while it commits is its next transaction.

So one fdatasync serves as many callers as there are, and a lone caller waits for nobody. Where commits would follow
each other faster than once a millisecond, they wait for company. What costs less together than one by one is done
together, whoever asked for it.
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
from itertools import groupby
from typing import Any, Generic, NamedTuple, TypeVar

import apsw

from service.errors import GatewayError, StoreUnavailable
from service.models import DestinationSettings
from service.store.contract import Clock, StoreListener

log = logging.getLogger(__name__)
T = TypeVar("T")
Item = TypeVar("Item")

DEADLINE_SECONDS = 1.5
"""The innermost deadline of design 6.8."""

SECONDS_BETWEEN_COMMITS = 0.001
"""Between the beginnings of two that are synced. A transaction costs as much as a dozen messages in it."""

MOST_WAITING = 2000
MOST_IN_A_TRANSACTION = 256


@dataclass(slots=True)
class Remembered:
    """What was looked up, from one transaction to the next. None: look.

    What changes it in the database changes it here, too: while a service has the file, nobody else may write to it.
    When a transaction fails, all is forgotten.
    """

    next_sequence: int | None = None
    is_anybody_erased: bool | None = None
    erasure_key: bytes | None = None
    is_any_assigned: bool | None = None
    destinations: dict[str, DestinationSettings] = field(default_factory=dict)


@dataclass(slots=True)
class Transaction:
    """What an operation works in: the connection, the time, and what the listener is to hear of."""

    connection: apsw.Connection
    now: int
    remembered: Remembered
    ready: set[str] = field(default_factory=set)
    arrivals: Counter[str] = field(default_factory=Counter)
    dead_letters: Counter[str] = field(default_factory=Counter)
    directory_changed: bool = False
    stored: Counter[tuple[str, bool]] = field(default_factory=Counter)
    """Messages, by channel and by whether they come out of a journal."""
    before_commit: dict[Callable[[Transaction], None], None] = field(default_factory=dict)
    """What is to be done once, in this order, whoever of the transaction's operations asked for it."""


class Operation(NamedTuple, Generic[T]):
    """What to do in a transaction: call `item`; or, with `run_all`, do that to it and to the items that come next."""

    run_all: Callable[[Transaction, Sequence[Any]], Sequence[T]] | None
    item: Any
    is_durable: bool
    result: asyncio.Future[T]


class Outcome(NamedTuple):
    """What an operation came to: its result, or why there is none."""

    operation: Operation[Any]
    value: Any


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
        self._remembered = Remembered()
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

        The operation raises a `GatewayError` before its first write or not at all. One that has not begun when its
        caller gives up is not run. Raises `StoreUnavailable` after 1.5 s: then the operation may still come to be.
        """
        return await self._wait_for(Operation(None, operation, is_durable, self._loop.create_future()))

    async def run_together(self, operation: Callable[[Transaction, Sequence[Item]], Sequence[T]], item: Item) -> T:
        """Like `run`, durably, for what is done to many items at a time; it returns one result an item.

        Where it raises, nothing that was done in the same transaction stays, and each item is tried alone.
        """
        return await self._wait_for(Operation(operation, item, True, self._loop.create_future()))

    async def _wait_for(self, operation: Operation[T]) -> T:
        if not self._thread.is_alive():
            raise StoreUnavailable("the store is closed; retry when the service is back")
        if self._queue.qsize() >= MOST_WAITING:
            raise StoreUnavailable("the store has too much waiting; retry")
        self._queue.put(operation)
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await operation.result
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
                self._settle([Outcome(operation, StoreUnavailable("the store is closed; retry elsewhere"))])

    def _run_group(self, group: Sequence[Operation[Any]]) -> None:
        """Run a group in one transaction; when one of it breaks, each in its own."""
        try:
            outcomes, transaction = self._transact(group)
        except Exception as error:  # noqa: BLE001 - handed to the callers, who are told apart below
            if len(group) > 1 and not isinstance(error, CommitFailed):
                for operation in group:
                    self._run_group([operation])
            else:
                self._settle([Outcome(operation, _in_our_words(error)) for operation in group])
        else:
            self._settle(outcomes, transaction)

    def _transact(self, group: Sequence[Operation[Any]]) -> tuple[Sequence[Outcome], Transaction]:
        connection = self._connection
        self._last_at = max(self._last_at, self._clock())
        transaction = Transaction(connection, self._last_at, self._remembered)
        self._set_durable(any(operation.is_durable for operation in group))
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcomes = _attempt(transaction, group)
            for finish in transaction.before_commit:
                finish(transaction)
            _commit(connection)
        except BaseException:
            self._remembered = Remembered()
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


def _attempt(transaction: Transaction, group: Sequence[Operation[Any]]) -> list[Outcome]:
    """Run what somebody still waits for when its turn comes, in order."""
    outcomes: list[Outcome] = []
    for run_all, operations in groupby(group, key=lambda operation: operation.run_all):
        wanted = (operation for operation in operations if not operation.result.cancelled())
        if run_all is None:
            outcomes += [Outcome(operation, _run(transaction, operation)) for operation in wanted]
        else:
            together = list(wanted)
            values = run_all(transaction, [operation.item for operation in together])
            outcomes += [Outcome(*pair) for pair in zip(together, values, strict=True)]
    return outcomes


def _run(transaction: Transaction, operation: Operation[Any]) -> Any:
    try:
        return operation.item(transaction)
    except GatewayError as error:
        return error


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
    for operation, value in outcomes:
        if operation.result.done():
            continue  # its caller has gone
        if isinstance(value, Exception):
            operation.result.set_exception(value)
        else:
            operation.result.set_result(value)


def microseconds(seconds: float) -> int:
    """Return a time span as the store counts it."""
    return round(seconds * 1_000_000)
