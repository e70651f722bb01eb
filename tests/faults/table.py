"""What happened, as a table: the figures that a run is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tests.faults.accounting import Round
from tests.faults.chaos import FaultKind

_WRONG = {
    "lost": "lost",
    "never_delivered": "stored, never delivered",
    "duplicated": "duplicated",
    "delivered_after_ack": "delivered after their ack",
    "foreign": "stored, never sent",
    "altered": "stored otherwise than sent",
    "reordered": "reordered",
    "delivered_out_of_order": "delivered out of order",
    "answered_twice": "acks answered twice",
}


def describe(rounds: Sequence[Round], store: str) -> str:
    """Write down what happened in these rounds, all together; one that is not over has no verdict yet.

    `store` is what messages were kept in.
    """
    rows = [("store", store), *_describe_traffic(rounds), *_describe_faults(rounds), *_describe_verdicts(rounds)]
    return "\n".join(f"  {name:34} {value}" for name, value in rows)


def _describe_traffic(rounds: Sequence[Round]) -> list[tuple[str, object]]:
    return [
        ("seeds", ", ".join(each.plan.seed for each in rounds[-5:])),
        ("seconds", f"{sum(each.seconds for each in rounds):.1f}"),
        ("  until all was delivered", f"{sum(each.settle_seconds for each in rounds):.1f}"),
        ("conversations", sum(each.plan.traffic.conversations for each in rounds)),
        ("messages posted", sum(each.ledger.posted_count for each in rounds)),
        ("messages that got their 2xx", sum(each.ledger.accepted_count for each in rounds)),
        ("  out of a journal", sum(each.recovered for each in rounds)),
        ("deliveries", sum(each.ledger.deliveries for each in rounds)),
    ]


def _describe_faults(rounds: Sequence[Round]) -> list[tuple[str, object]]:
    counts = {kind: sum(each.faults[kind] for each in rounds) for kind in FaultKind}
    return [(f"fault: {kind.value}", count) for kind, count in counts.items() if count]


def _describe_verdicts(rounds: Sequence[Round]) -> list[tuple[str, object]]:
    verdicts = [each.verdict for each in rounds if each.verdict]
    wrong = [(label, sum(getattr(verdict, name) for verdict in verdicts)) for name, label in _WRONG.items()]
    statuses: Counter[int] = sum((each.answers.statuses for each in rounds), Counter())
    refused = [(f"  {status}", count) for status, count in sorted(statuses.items()) if not 200 <= status < 300]
    return [
        ("rounds judged", f"{len(verdicts)} of {len(rounds)}"),
        *wrong,
        ("non-2xx answers", sum(count for _, count in refused)),
        *refused,
        ("  while the disk had room", sum(each.answers.needless for each in rounds)),
        ("connection errors", sum(each.answers.connection_errors for each in rounds)),
        ("refused while the shim was down", sum(each.answers.refused_connections for each in rounds)),
    ]
