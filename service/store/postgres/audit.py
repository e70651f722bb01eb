"""The audit log's SQL: what was done by hand, written where it is done."""

from __future__ import annotations

from service.models import AuditEntry
from service.store.audit_details import dump_details, load_details, shorten
from service.store.postgres.session import Transaction

__all__ = ["list_audit", "shorten", "write", "write_entry"]

WRITE = "INSERT INTO audit (at, actor, action, details) VALUES ($1, $2, $3, $4)"

LIST = """
SELECT number, at, actor, action, details FROM audit WHERE number < $1 {condition} ORDER BY number DESC LIMIT $2
"""


async def write(transaction: Transaction, actor: str, action: str, **details: object) -> None:
    """Write an entry, in the transaction of what it is about. `details`: names and numbers, nobody's words."""
    await transaction.connection.execute(WRITE, transaction.now, actor, action, dump_details(details))


async def write_entry(transaction: Transaction, entry: AuditEntry) -> None:
    """Write an entry that is made already."""
    await write(transaction, entry.actor, entry.action, **entry.details)


async def list_audit(transaction: Transaction, action: str | None, before: int | None, limit: int) -> list[AuditEntry]:
    """See `AsideStore.list_audit`."""
    condition, bindings = ("", ()) if action is None else ("AND action = $3", (action,))
    rows = await transaction.connection.fetch(LIST.format(condition=condition), before or 2**63 - 1, limit, *bindings)
    return [
        AuditEntry(actor, name, load_details(details), number=number, at=at)
        for number, at, actor, name, details in rows
    ]
