"""The audit log's SQL: what was done by hand, written where it is done."""

from __future__ import annotations

from typing import Any

import apsw

from service.models import AuditEntry
from service.store.audit_details import dump_details, load_details, shorten
from service.store.sqlite.writer import Transaction

__all__ = ["list_audit", "shorten", "write", "write_entry"]

COLUMNS = "number, at, actor, action, details FROM audit WHERE number < ?"


def write(transaction: Transaction, actor: str, action: str, **details: object) -> None:
    """Write an entry, in the transaction of what it is about. `details`: names and numbers, nobody's words."""
    transaction.connection.execute(
        "INSERT INTO audit (at, actor, action, details) VALUES (?, ?, ?, ?)",
        (transaction.now, actor, action, dump_details(details)),
    )


def write_entry(transaction: Transaction, entry: AuditEntry) -> None:
    """Write an entry that is made already."""
    write(transaction, entry.actor, entry.action, **entry.details)


def list_audit(connection: apsw.Connection, action: str | None, before: int | None, limit: int) -> list[AuditEntry]:
    """See `AsideStore.list_audit`."""
    bindings: list[Any] = [before or 2**63 - 1]
    condition = ""
    if action is not None:
        condition = "AND action = ?"
        bindings.append(action)
    rows = connection.execute(f"SELECT {COLUMNS} {condition} ORDER BY number DESC LIMIT ?", (*bindings, limit))
    return [
        AuditEntry(actor, name, load_details(details), number=number, at=at)
        for number, at, actor, name, details in rows
    ]
