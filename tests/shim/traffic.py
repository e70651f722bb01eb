"""Callers that hardly rest, on connections that they keep, as Twilio's do: what they see is counted.

A caller notices that its connection was closed before it writes to it, and then opens another one. A request that
was written and isn't answered is a fault of the shim's, and so is a connection that is refused.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.shim.caller import FORM, Caller

PAUSE_SECONDS = 0.005
"""After each request, so that those who wait meanwhile have the processor."""


@dataclass
class Traffic:
    """What came of all requests so far."""

    listen: str
    statuses: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    accepted: set[str] = field(default_factory=set)
    connections: int = 0
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    _is_over: bool = False

    @property
    def requests(self) -> int:
        return self.statuses.total() + self.faults.total()

    async def wait_for(self, more: int) -> None:
        """Wait until that many more requests are answered."""
        wanted = self.requests + more
        async with asyncio.timeout(50), self._grown:
            await self._grown.wait_for(lambda: self.requests >= wanted)

    async def flow(self, caller: int) -> None:
        number = 0
        while not self._is_over:
            try:
                async with Caller(self.listen) as connection:
                    self.connections += 1
                    await asyncio.sleep(0)
                    while not self._is_over and not connection.reader.at_eof():
                        number += 1
                        if await self._request(connection, f"SM-{caller}-{number}"):
                            break
            except (OSError, EOFError) as error:
                self.faults[type(error).__name__] += 1
            async with self._grown:
                self._grown.notify_all()

    async def _request(self, connection: Caller, sid: str) -> bool:
        """Make one request; tell whether the connection ends with it."""
        response = await connection.post(FORM | {"MessageSid": sid})
        self.statuses[response.status] += 1
        if response.status == 204:
            self.accepted.add(sid)
        async with self._grown:
            self._grown.notify_all()
        await asyncio.sleep(PAUSE_SECONDS)
        return response.headers.get("Connection") == "close"

    def end(self) -> None:
        self._is_over = True


@asynccontextmanager
async def traffic(listen: str, *, callers: int = 8) -> AsyncIterator[Traffic]:
    """Have callers call until the block ends; each then finishes its request."""
    flow = Traffic(listen)
    async with asyncio.TaskGroup() as group:
        for caller in range(callers):
            group.create_task(flow.flow(caller))
        with contextlib.ExitStack() as stack:
            stack.callback(flow.end)
            yield flow
