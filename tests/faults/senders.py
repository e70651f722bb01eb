"""Many people who write, each waiting for the 2xx of one message before the next; and how they were answered."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.faults.gateway import Gateway
from tests.faults.ledger import Ledger, Posted
from tests.shim.caller import FORM, Caller, basic

USER = "user"
PASSWORD = "a good password"
_TIMEOUT_SECONDS = 15.0
"""Twilio's."""


@dataclass
class Answers:
    """What the senders were told."""

    statuses: Counter[int] = field(default_factory=Counter)
    connection_errors: int = 0
    refused_connections: int = 0
    """Nobody listened: the shim as a whole was down."""
    needless: int = 0
    """Not 2xx although the journal's disk had room."""

    @property
    def non_2xx(self) -> int:
        return sum(count for status, count in self.statuses.items() if not 200 <= status < 300)


@dataclass(frozen=True)
class Traffic:
    """How much they write."""

    conversations: int = 200
    messages_each: int = 25
    """At least; they go on until they are told to stop."""
    pause_seconds: float = 0.5
    """Between two messages of a conversation, on average."""


class Sender:
    """One conversation, which stays with one shim."""

    def __init__(
        self, gateway: Gateway, *, channel: str, number: int, ledger: Ledger, answers: Answers, seed: str
    ) -> None:
        self._gateway = gateway
        self._shim = number % gateway.replicas
        self._path = f"/social/on/whatsapp/twilio/message/{channel}"
        self._name = f"{channel}-{number:03d}"
        self._sender = f"whatsapp:+44{number:09d}"
        self._ledger = ledger
        self._answers = answers
        self._random = random.Random(f"{seed} sender {number}")
        self._caller: Caller | None = None

    async def write(self, traffic: Traffic, enough: asyncio.Event) -> None:
        """Write at least as much as the traffic asks for, and until it is enough."""
        number = 0
        while number < traffic.messages_each or not enough.is_set():
            await asyncio.sleep(self._random.uniform(0, 2 * traffic.pause_seconds))
            await self._post(number)
            number += 1
        await self._hang_up()

    async def _post(self, number: int) -> None:
        """Post a message again and again, until it has its 2xx."""
        message_sid = f"SM{self._name}-{number:06d}"
        body = f"{self._random.getrandbits(64):x}" * self._random.randint(1, 20)
        form = FORM | {"From": self._sender, "MessageSid": message_sid, "Body": body}
        self._ledger.post(message_sid, Posted(self._sender, number, body))
        while True:
            if await self._is_accepted(form):
                break
            await asyncio.sleep(self._random.uniform(0.05, 0.3))
        self._ledger.accept(message_sid)

    async def _is_accepted(self, form: dict[str, str]) -> bool:
        started_at = time.monotonic()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                caller = await self._connect()
                response = await caller.post(form, path=self._path, authorization=basic(USER, PASSWORD))
        except ConnectionRefusedError:
            self._answers.refused_connections += 1
            return False
        except (OSError, EOFError, TimeoutError):
            self._answers.connection_errors += 1
            await self._hang_up()
            return False
        is_accepted = 200 <= response.status < 300
        self._answers.statuses[response.status] += 1
        if not is_accepted and not self._gateway.had_full_disk_since(started_at):
            self._answers.needless += 1
        if response.headers.get("Connection") == "close" or self._random.random() < 0.2:
            await self._hang_up()  # the next one may well come to another worker
        return is_accepted

    async def _connect(self) -> Caller:
        if self._caller is None:
            self._caller = await Caller(self._gateway.shims[self._shim].listen).__aenter__()
        return self._caller

    async def _hang_up(self) -> None:
        if self._caller is not None:
            await self._caller.__aexit__()
            self._caller = None
