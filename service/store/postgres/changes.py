"""Changes of the directory. They wait for each other anyway: those that are there together share one transaction.

So several hundred at once take a few commits, and none of them waits for long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from service.errors import GatewayError, StoreUnavailable

if TYPE_CHECKING:
    from service.store.postgres.session import Transaction

T = TypeVar("T")
Operation: TypeAlias = "Callable[[Transaction], Awaitable[T]]"

MOST_TOGETHER = 32
"""Other replicas wait meanwhile."""

MOST_WAITING = 2000

SAVE = "SAVEPOINT change"
SAVE_AGAIN = "RELEASE SAVEPOINT change; SAVEPOINT change"
UNDO = "ROLLBACK TO SAVEPOINT change"


class _Change(NamedTuple):
    """What somebody waits for."""

    operation: Operation[Any]
    done: asyncio.Future[Any]


class Changes:
    """Runs operations in their order, each as if it were alone, in transactions that `run` runs."""

    def __init__(self, run: Callable[[Operation[Sequence[Any]]], Awaitable[Sequence[Any]]]) -> None:
        self._run = run
        self._waiting: deque[_Change] = deque()
        self._working: asyncio.Task[None] | None = None

    async def apply(self, operation: Operation[T]) -> T:
        """Return an operation's result once it is committed. Its `GatewayError` rolls back nothing but itself.

        Where the caller gives up, it may still come to be.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise StoreUnavailable("the directory has too many changes waiting; retry")
        change = _Change(operation, asyncio.get_running_loop().create_future())
        self._waiting.append(change)
        if self._working is None:
            self._working = asyncio.create_task(self._work())
        result: T = await change.done
        return result

    async def _work(self) -> None:
        try:
            while some := self._take():
                await self._commit(some)
        finally:
            self._working = None

    def _take(self) -> Sequence[_Change]:
        """Return the next ones that somebody still waits for."""
        taken: list[_Change] = []
        while self._waiting and len(taken) < MOST_TOGETHER:
            change = self._waiting.popleft()
            if not change.done.done():
                taken.append(change)
        return taken

    async def _commit(self, changes: Sequence[_Change]) -> None:
        working = self._run(lambda transaction: _do_all(transaction, changes))
        found: Sequence[Any] | BaseException
        (found,) = await asyncio.gather(working, return_exceptions=True)
        if isinstance(found, Exception) and not isinstance(found, GatewayError) and len(changes) > 1:
            for change in changes:  # whosever fault it is, it is not everybody's
                await self._commit([change])
            return
        # A failure of the whole is everybody's who waits.
        outcomes = [found] * len(changes) if isinstance(found, BaseException) else found
        for change, outcome in zip(changes, outcomes, strict=True):
            if change.done.done():
                continue
            if isinstance(outcome, BaseException):
                change.done.set_exception(outcome)
            else:
                change.done.set_result(outcome)


async def _do_all(transaction: Transaction, changes: Sequence[_Change]) -> Sequence[Any]:
    """Return what each one returns, or the error that it was refused with."""
    if len(changes) == 1:
        return [await changes[0].operation(transaction)]
    outcomes: list[Any] = []
    for change in changes:
        await transaction.connection.execute(SAVE_AGAIN if outcomes else SAVE)
        try:
            outcomes.append(await change.operation(transaction))
        except GatewayError as error:
            await transaction.connection.execute(UNDO)
            outcomes.append(error)
    return outcomes
