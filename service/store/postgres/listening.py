"""What replicas tell each other: that something is ready, came in, or changed. Nothing but speed depends on it.

It is told by NOTIFY, outside of the transactions that it is about, since those that notify commit one at a time. While
something is told, and for a moment after it, what comes is gathered for the next time. What is lost is only late:
whoever listens also polls.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from service.store.contract import StoreListener
from service.store.postgres.pool import LOST

if TYPE_CHECKING:
    from service.store.postgres.pool import Connection
    from service.store.postgres.session import Transaction

log = logging.getLogger(__name__)

CHANNEL = "mo"

NAMES_IN_A_NOTE = 40
"""A payload has room for 8,000 bytes, and a name has up to 128."""

# What is told is lost with the server anyway.
NOT_SYNCED = "SET synchronous_commit = off"

TELL = f"SELECT count(pg_notify('{CHANNEL}', note)) FROM unnest($1::text[]) AS note"

PAUSE_SECONDS = 0.01
"""Between two tellings. Where a replica commits more often, all others would be busy with its news."""

SILENCE_SECONDS = 5.0
"""After so much of it the connection is tried."""

ANSWER_SECONDS = 1.5
SHORTEST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0


class Listening:
    """Tells listeners of the commits of this replica, and the other replicas of them; and listeners of theirs.

    Made on the event loop that it lives on. `connect` makes the connection of its own that it needs.
    """

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._listeners: list[StoreListener] = []
        self._news = _News()
        self._is_news = asyncio.Event()
        self._is_connected = asyncio.Event()
        self._was_lost = False
        self._own_pid = 0
        self._following = asyncio.create_task(self._follow())

    def listen(self, listener: StoreListener) -> None:
        """Let `listener` hear of every commit."""
        self._listeners.append(listener)

    def announce(self, transaction: Transaction) -> None:
        """Tell everybody of a transaction that is committed."""
        if transaction.ready or transaction.dead_letters or transaction.directory_changed:
            self._news.add(transaction)
            self._is_news.set()
            self._tell_of(transaction)

    async def connected(self) -> None:
        """Return when the other replicas are heard."""
        await self._is_connected.wait()

    async def close(self) -> None:
        """Hear and tell nothing any more. A repeat does nothing."""
        self._following.cancel()
        await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self) -> None:
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            try:
                await self._work()
            except (asyncpg.PostgresError, *LOST) as error:
                if self._is_connected.is_set() or not self._was_lost:
                    log.warning("replicas_not_heard", extra={"reason": type(error).__name__})
                    pause = SHORTEST_PAUSE_SECONDS
                self._is_connected.clear()
                self._was_lost = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _work(self) -> None:
        connection = await self._connect()
        try:
            connection.add_termination_listener(self._notice_loss)
            self._own_pid = connection.get_server_pid()
            await connection.execute(NOT_SYNCED)
            await connection.add_listener(CHANNEL, self._hear)
            self._is_connected.set()
            if self._was_lost:
                log.info("replicas_heard_again")
                self._tell(_News(directory_changed=True))  # perhaps, meanwhile
            while True:
                await self._tell_others(connection)
        finally:
            connection.terminate()

    async def _tell_others(self, connection: Connection) -> None:
        # Nothing is told after a silence, which shows whether the connection is good.
        with suppress(TimeoutError):
            async with asyncio.timeout(SILENCE_SECONDS):
                await self._is_news.wait()
        self._is_news.clear()
        news, self._news = self._news, _News()
        async with asyncio.timeout(ANSWER_SECONDS):
            await connection.execute(TELL, list(news.to_notes()))
        await asyncio.sleep(PAUSE_SECONDS)

    def _notice_loss(self, _connection: object) -> None:
        self._is_news.set()

    def _hear(self, _connection: object, pid: int, _channel: str, note: object) -> None:
        if pid != self._own_pid:
            self._tell(_News.from_note(str(note)))

    def _tell_of(self, transaction: Transaction) -> None:
        news = _News()
        news.add(transaction)
        self._tell(news)
        # Each replica counts and logs its own ones.
        if transaction.dead_letters:
            for listener in self._listeners:
                listener.on_dead_letters(transaction.dead_letters)

    def _tell(self, news: _News) -> None:
        for listener in self._listeners:
            if news.ready:
                listener.on_ready(news.ready)
            if news.arrivals:
                listener.on_arrivals(news.arrivals)
            if news.directory_changed:
                listener.on_directory_change()


class _News:
    """What commits have brought."""

    def __init__(self, *, directory_changed: bool = False) -> None:
        self.ready: set[str] = set()
        self.arrivals: Counter[str] = Counter()
        self.directory_changed = directory_changed

    @classmethod
    def from_note(cls, note: str) -> _News:
        """Read one of what `to_notes` wrote."""
        content = json.loads(note)
        news = cls(directory_changed=content["directory_changed"])
        news.ready.update(content["ready"])
        news.arrivals.update({name: count for name, count in content["ready"].items() if count})
        return news

    def add(self, transaction: Transaction) -> None:
        """Take up what a transaction has brought."""
        self.ready |= transaction.ready
        self.arrivals += transaction.arrivals
        self.directory_changed |= transaction.directory_changed

    def to_notes(self) -> Iterator[str]:
        """Write all of it in notes that each fit into a payload: destinations with how many messages came in."""
        names = sorted(self.ready)
        for start in range(0, len(names), NAMES_IN_A_NOTE):
            ready = {name: self.arrivals[name] for name in names[start : start + NAMES_IN_A_NOTE]}
            yield json.dumps({"directory_changed": False, "ready": ready})
        if self.directory_changed:
            yield json.dumps({"directory_changed": True, "ready": {}})
