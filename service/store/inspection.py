"""What `mo-service check` finds in a store, and what there is to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from service.models import DestinationStatus

LONGEST_PENDING_SECONDS = 900
"""With the default settings the first message of a conversation is acknowledged or given up by then."""


class TableFigures(NamedTuple):
    """How large a table is. `dead_rows`: versions that nobody needs any more, None where there are no such."""

    name: str
    rows: int
    table_bytes: int
    index_bytes: int
    dead_rows: int | None = None


class IndexFigures(NamedTuple):
    """How large an index is, and how often it was used to look something up; None where nobody counts."""

    name: str
    table: str
    size_bytes: int
    scans: int | None = None


class Waiting(NamedTuple):
    """What waits in a destination, and how long its oldest message has waited."""

    destination: str
    backlog: int
    oldest_seconds: int | None
    dead_letters: int


class Finding(NamedTuple):
    """Something that should be mended, and how."""

    what: str
    action: str


@dataclass(frozen=True, slots=True)
class Content:
    """What is in the store, for consumers and operators."""

    destinations: Sequence[Waiting] = ()
    held: int = 0
    quarantined: int = 0
    """Requests that are not settled, those that were refused too."""
    quarantined_accepted: int = 0
    """Those among them that the provider was told we have: they stay until they are settled."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything that was found. `settings`: what the database is set to, and how it stands, by name."""

    store: str
    engine: str
    schema: int
    newest_known_schema: int
    database_bytes: int
    wal_bytes: int | None
    free_bytes: int | None
    rows_are_estimated: bool
    tables: Sequence[TableFigures]
    indexes: Sequence[IndexFigures]
    settings: Mapping[str, str | int | None]
    content: Content | None
    findings: Sequence[Finding] = field(default=())


def find_waiting(statuses: Sequence[DestinationStatus], now: int) -> Sequence[Waiting]:
    """Return what waits in destinations, as of `now`."""
    return [
        Waiting(
            status.name,
            status.backlog,
            None if status.oldest_committed_at is None else max(0, now - status.oldest_committed_at) // 1_000_000,
            status.dead_letters,
        )
        for status in statuses
    ]


def find_unsettled(content: Content) -> Iterator[Finding]:
    """Yield what waits for an operator or for too long."""
    for name, backlog, oldest_seconds, dead_letters in content.destinations:
        if oldest_seconds is not None and oldest_seconds > LONGEST_PENDING_SECONDS:
            yield Finding(
                f'{backlog} deliveries wait for "{name}", the oldest for {oldest_seconds} s',
                f"see that its consumers run and acknowledge: mo destination show {name}",
            )
        if dead_letters:
            yield Finding(
                f'{dead_letters} deliveries to "{name}" were given up',
                f"see why: mo dead-letter list --destination {name}; then mo dead-letter redrive, or discard",
            )
    if content.held:
        yield Finding(f"{content.held} messages are held", "see why: mo held list; then mo held release, or discard")
    if content.quarantined_accepted:
        yield Finding(
            f"{content.quarantined_accepted} requests that were accepted are in quarantine",
            "see why: mo quarantine list; then mo quarantine retry, or discard",
        )


def find_outdated(schema: int, oldest_code: int, newest_known: int) -> Iterator[Finding]:
    """Yield what is wrong with the store's schema for this code."""
    if oldest_code > newest_known:
        yield Finding(
            f"the store has schema {schema}, which this mo-service can't use: it knows schema {newest_known}",
            "use a newer mo-service",
        )
    if schema < newest_known:
        yield Finding(
            f"the store has schema {schema}, and this mo-service makes it {newest_known}",
            "start the service in this version: it brings the schema up to date",
        )
