"""A service that asks for certificates, in the test's own loop, and callers who have one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.__main__ import open_service
from service.security_files import SecurityFiles
from service.settings import Settings
from tests.certificates import Authority, Issued
from tests.service.stubs import Client, connected

ROLES = """
"spiffe://aicc/shim" = ["shim"]
"operator" = ["operate", "consume:*"]
"reader" = ["read"]
"bot.example.com" = ["consume:bot", "consume:bots.*", "assign"]
"agents" = ["consume:agents"]
"importer" = ["ingest:C1", "ingest:import-*"]
"assigner" = ["assign"]
"""


@dataclass
class Secured:
    """Where it is, and what its callers need."""

    folder: Path
    address: str
    authority: Authority
    service: Issued
    roles: Path
    events: Events

    def call_as(self, name: str, **names: Any) -> AbstractAsyncContextManager[Client]:
        """Connect with a certificate for this common name, and alternative ones."""
        return connected(self.address, credentials=self.authority.trust(self.authority.issue(name, **names)))

    def call_as_shim(self) -> AbstractAsyncContextManager[Client]:
        return self.call_as("any", uris=["spiffe://aicc/shim"], dns=["operator"])


@dataclass
class Events(logging.Handler):
    """What the service logs: something to wait for."""

    records: list[logging.LogRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._grew = asyncio.Event()

    __hash__ = logging.Handler.__hash__

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self._grew.set()

    def find(self, name: str) -> list[logging.LogRecord]:
        return [record for record in self.records if record.getMessage() == name]

    async def wait_for(self, name: str, times: int = 1) -> logging.LogRecord:
        async with asyncio.timeout(50):
            while len(self.find(name)) < times:
                self._grew.clear()
                await self._grew.wait()
        return self.find(name)[times - 1]


@asynccontextmanager
async def secured(folder: Path, roles: str = ROLES, *, asks: bool = True) -> AsyncIterator[Secured]:
    """Run a service with TLS; one that `asks` wants a certificate of each caller."""
    authority = Authority(folder)
    issued = authority.issue_for_service()
    file = folder / "roles.toml"
    file.write_text(roles)
    files = SecurityFiles(issued.cert, issued.key, file, authority.cert if asks else None)
    settings = Settings(listen="127.0.0.1:0", admin_listen="127.0.0.1:0", store=folder / "secured.db", security=files)
    events = Events()
    logger = logging.getLogger("service")
    before = logger.level
    logger.addHandler(events)
    logger.setLevel(logging.INFO)
    try:
        async with open_service(settings) as running:
            yield Secured(folder, running.listen, authority, issued, file, events)
    finally:
        logger.removeHandler(events)
        logger.setLevel(before)
