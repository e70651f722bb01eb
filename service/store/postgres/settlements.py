"""Settlements: what consumers say of the deliveries that they have, each fenced to its claim."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from service.models import AckStatus, AttemptOutcome, Settlement, SettlementKind
from service.store.postgres import assignments, attempts, heads, lanes
from service.store.postgres.attempts import Failure
from service.store.postgres.lanes import Lane
from service.store.postgres.session import Transaction, microseconds

# A replay may bring a message to a destination that has acknowledged it before: the last one counts.
ACKNOWLEDGE = f"""
WITH {heads.ADVANCE}
INSERT INTO settled (message, destination, attempts, settled_at, delivered_at)
SELECT DISTINCT ON (t.message) t.message, $6, a.attempts, $5, a.leased_at
FROM taken t JOIN unnest($1::bigint[], $7::integer[], $8::bigint[]) AS a (lane, attempts, leased_at) USING (lane)
ORDER BY t.message
ON CONFLICT (message, destination) DO UPDATE SET
  attempts = excluded.attempts, settled_at = excluded.settled_at, delivered_at = excluded.delivered_at,
  is_discarded = false
"""

EXTEND = """
UPDATE lane l SET due_at = e.due_at FROM unnest($1::bigint[], $2::bigint[]) AS e (lane, due_at) WHERE l.id = e.lane
"""

RETURN = "UPDATE lane SET is_leased = false, due_at = $2 WHERE id = ANY ($1::bigint[])"

OUTCOMES = {SettlementKind.NACK: AttemptOutcome.NACKED, SettlementKind.BREAK: AttemptOutcome.STREAM_BROKEN}


class _Good(NamedTuple):
    """A settlement whose token is that of the claim which is out."""

    lane: Lane
    kind: SettlementKind
    seconds: float | None


async def settle(transaction: Transaction, destination: str, settlements: Sequence[Settlement]) -> list[AckStatus]:
    """See `FeedStore.settle`. Of each lane one settlement at a time: most calls have no second one of any."""
    statuses: dict[int, AckStatus] = {}
    for numbers in _rounds(settlements):
        some = {number: settlements[number] for number in numbers}
        statuses.update(await _settle(transaction, destination, some))
    return [statuses[number] for number in range(len(settlements))]


def _rounds(settlements: Sequence[Settlement]) -> Iterator[Collection[int]]:
    """Yield the numbers of settlements, so that a lane has one at most in each round, in order."""
    left = list(range(len(settlements)))
    while left:
        first: dict[int, int] = {}
        for number in left:
            first.setdefault(settlements[number].token.lane, number)
        yield first.values()
        taken = set(first.values())
        left = [number for number in left if number not in taken]


async def _settle(
    transaction: Transaction, destination: str, settlements: Mapping[int, Settlement]
) -> dict[int, AckStatus]:
    locked = await lanes.lock(transaction, [each.token.lane for each in settlements.values()])
    unknown = [each.token.lane for each in settlements.values() if each.token.lane not in locked]
    ever = await lanes.were_ever(transaction, unknown) if unknown else set()
    statuses: dict[int, AckStatus] = {}
    good: list[_Good] = []
    for number, (token, kind, seconds) in settlements.items():
        lane = locked.get(token.lane)
        if lane is None:
            statuses[number] = AckStatus.STALE if token.lane in ever else AckStatus.UNKNOWN
            continue
        statuses[number] = _judge(transaction, lane, destination, token.claim, kind)
        if statuses[number] is AckStatus.OK:
            good.append(_Good(lane, kind, seconds))
    await _apply(transaction, destination, good)
    return statuses


def _judge(transaction: Transaction, lane: Lane, destination: str, claim: int, kind: SettlementKind) -> AckStatus:
    if lane.destination != destination or not 1 <= claim <= lane.claims:
        return AckStatus.UNKNOWN
    is_late = lane.has_expired or (lane.due_at or 0) <= transaction.now
    if claim != lane.claims or not lane.is_leased or (is_late and kind is not SettlementKind.ACK):
        return AckStatus.STALE
    return AckStatus.OK


async def _apply(transaction: Transaction, destination: str, good: Sequence[_Good]) -> None:
    await _acknowledge(transaction, destination, [each.lane for each in good if each.kind is SettlementKind.ACK])
    await _extend(transaction, [each for each in good if each.kind is SettlementKind.EXTEND])
    await _return(transaction, [each.lane for each in good if each.kind is SettlementKind.RETURN])
    await attempts.fail(
        transaction,
        [Failure(each.lane, OUTCOMES[each.kind], each.seconds) for each in good if each.kind in OUTCOMES],
    )


async def _acknowledge(transaction: Transaction, destination: str, acknowledged: Sequence[Lane]) -> None:
    if acknowledged:
        await transaction.connection.execute(
            ACKNOWLEDGE,
            *heads.advance_arguments(transaction, acknowledged),
            destination,
            [lane.attempts + (not lane.has_expired) for lane in acknowledged],
            [lane.leased_at for lane in acknowledged],
        )
        await heads.after_advance(transaction, acknowledged)


async def _extend(transaction: Transaction, extended: Sequence[_Good]) -> None:
    if extended:
        ends = [transaction.now + microseconds(each.seconds or 0.0) for each in extended]
        await transaction.connection.execute(EXTEND, [each.lane.id for each in extended], ends)
        for each in extended:
            if each.lane.awaited_by is not None:
                await heads.wait_for_leases(transaction, each.lane.awaited_by)


async def _return(transaction: Transaction, returned: Sequence[Lane]) -> None:
    staying = [lane for lane in returned if lane.awaited_by is None]
    if staying:
        await transaction.connection.execute(RETURN, [lane.id for lane in staying], transaction.now)
        transaction.ready.update(lane.destination for lane in staying)
    for lane in returned:
        if lane.awaited_by is not None:
            await assignments.move_head(transaction, lane)
