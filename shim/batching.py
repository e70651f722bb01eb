"""Messages that are there together leave together.

While a batch is out, what arrives gathers for the next one, which leaves a few milliseconds after it. So a lone message
leaves at once, and the busier the shim, the larger its batches. Knows neither HTTP nor gRPC.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from shim.batch_limits import BatchLimits
from shim.errors import OverloadError, ServiceFaultError, ServiceUnavailableError
from shim.metrics import BatchingMetrics

_log = logging.getLogger(__name__)

Result = TypeVar("Result")
Failure = ServiceUnavailableError | ServiceFaultError


class _Waiting(NamedTuple, Generic[Result]):
    item: bytes
    settle: Callable[[Result | Failure], None]
    arrived_at: float


class Batcher(Generic[Result]):
    """Sends what is put in, in the order of arrival, as few and as large batches as the traffic makes them.

    An item is an encoding for which concatenation is the encoding of both: a batch is its items joined, so that
    each message is serialised once, and its size is known exactly. `send` returns one result an item.

    When a batch fails, all that waits behind it fails with it, in the order of arrival: it would only find out the
    same, each batch 2 s later.
    """

    def __init__(
        self,
        send: Callable[[bytes], Awaitable[Sequence[Result]]],
        *,
        limits: BatchLimits,
        metrics: BatchingMetrics,
    ) -> None:
        self._send = send
        self._limits = limits
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting[Result]] = deque()
        self._waiting_bytes = 0
        self._in_flight: set[asyncio.Task[None]] = set()
        self._departure: asyncio.Handle | None = None
        self._gathers = False
        self._departed_at = 0.0
        self._last_failure: Failure | None = None
        metrics.waiting_messages.set_function(lambda: len(self._waiting))
        metrics.waiting_bytes.set_function(lambda: self._waiting_bytes)
        metrics.in_flight.set_function(lambda: len(self._in_flight))

    def put(self, item: bytes, settle: Callable[[Result | Failure], None]) -> None:
        """Let the item leave with the next batch; `settle` is called once, with its result or why there is none.

        Never calls `settle` before it returns; `settle` must not raise. Raises `OverloadError` when as much waits
        already as may.
        """
        limits = self._limits
        if (
            len(self._waiting) >= limits.max_waiting_messages
            or self._waiting_bytes + len(item) > limits.max_waiting_bytes
        ):
            raise OverloadError("too many messages wait for the service")
        self._waiting.append(_Waiting(item, settle, self._loop.time()))
        self._waiting_bytes += len(item)
        if self._departure is None or (self._gathers and self._is_full):
            self._plan_departure(gathers=bool(self._in_flight))

    async def drain(self) -> None:
        """Wait until everything that was put in is settled."""
        while self._waiting or self._in_flight:
            self._depart()
            if self._in_flight:
                await asyncio.wait(self._in_flight)

    @property
    def _is_full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._waiting) >= self._limits.max_messages or self._waiting_bytes >= self._limits.max_bytes

    def _plan_departure(self, *, gathers: bool) -> None:
        """Let what waits leave in its time; if as many batches are out as may, that begins when one of them returns."""
        self._forget_departure()
        if len(self._in_flight) >= self._limits.max_in_flight:
            return
        self._gathers = gathers and not self._is_full
        if self._gathers:
            self._departure = self._loop.call_at(self._departed_at + self._limits.gather_seconds, self._depart)
        else:
            # Not at once: what else arrives in this turn of the loop comes along.
            self._departure = self._loop.call_soon(self._depart)

    def _forget_departure(self) -> None:
        if self._departure is not None:
            self._departure.cancel()
            self._departure = None

    def _depart(self) -> None:
        self._forget_departure()
        while self._waiting and len(self._in_flight) < self._limits.max_in_flight:
            if batch := self._next_batch():
                self._departed_at = self._loop.time()
                task = self._loop.create_task(self._carry(batch))
                self._in_flight.add(task)
                task.add_done_callback(self._return)

    def _return(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if self._waiting and self._departure is None:
            self._plan_departure(gathers=True)

    def _next_batch(self) -> list[_Waiting[Result]]:
        """Take the oldest items, as many as may leave together; those that waited too long fail instead."""
        batch: list[_Waiting[Result]] = []
        late: list[_Waiting[Result]] = []
        size = 0
        too_old = self._loop.time() - self._limits.max_wait_seconds
        while self._waiting and len(batch) < self._limits.max_messages:
            entry = self._waiting[0]
            size += len(entry.item)
            if size > self._limits.max_bytes and batch:
                break
            self._waiting.popleft()
            self._waiting_bytes -= len(entry.item)
            if entry.arrived_at < too_old:
                size -= len(entry.item)
                late.append(entry)
            else:
                batch.append(entry)
        if late:
            _settle_all(late, ServiceUnavailableError("the message waited too long for a batch"))
        return batch

    async def _carry(self, batch: list[_Waiting[Result]]) -> None:
        started_at = self._loop.time()
        try:
            results = await self._send(b"".join([entry.item for entry in batch]))
            if len(results) != len(batch):
                raise ServiceFaultError(f"{len(results)} results came back for {len(batch)} messages")
        except (ServiceUnavailableError, ServiceFaultError) as failure:
            self._fail(batch, failure)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers must hear of it
            _log.error("batch_broken", exc_info=error)
            self._fail(batch, ServiceFaultError(type(error).__name__))
        else:
            self._last_failure = None
            for entry, result in zip(batch, results, strict=True):
                entry.settle(result)
        self._metrics.observe(len(batch), self._loop.time() - started_at, failure=self._last_failure)

    def _fail(self, batch: list[_Waiting[Result]], failure: Failure) -> None:
        if str(failure) != str(self._last_failure):
            # Once for each time that the service goes away, not for each batch meanwhile.
            _log.error("batch_failed", extra={"reason": str(failure), "messages": len(batch)})
        self._last_failure = failure
        batch += self._waiting
        self._waiting.clear()
        self._waiting_bytes = 0
        _settle_all(batch, failure)


def _settle_all(entries: Sequence[_Waiting[Result]], failure: Failure) -> None:
    for entry in entries:
        entry.settle(failure)
