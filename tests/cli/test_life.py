"""The life of a message as `mo message trace` tells it."""

from __future__ import annotations

from datetime import datetime

from aicc.mo.v1 import message_archive_pb2 as pb
from aicc.mo.v1.message_feed_pb2 import DeadLetter
from aicc.mo.v1.message_pb2 import (
    ASSIGNMENT_REASON_AFFINITY,
    ATTEMPT_OUTCOME_EXPIRED,
    ATTEMPT_OUTCOME_NACKED,
    HOLD_REASON_UNROUTED,
    MESSAGE_TYPE_TEXT,
    AttemptOutcome,
    DeliveryAttempt,
    MoMessage,
)
from google.protobuf.timestamp_pb2 import Timestamp

from shim.cli.life import Event, life
from tests.cli.commands import Mo
from tests.cli.dead import dead_letter

MESSAGE = MoMessage(sender="whatsapp:+447700900123", receiver="whatsapp:+14155238886", message_type=MESSAGE_TYPE_TEXT)


def at(seconds: int) -> Timestamp:
    return Timestamp(seconds=seconds)


def stored(
    *deliveries: pb.DeliveryStatus, state: pb.MessageState.ValueType = pb.MESSAGE_STATE_PENDING
) -> pb.StoredMessage:
    message = MoMessage(receive_time=at(10))
    message.MergeFrom(MESSAGE)
    return pb.StoredMessage(
        message=message, sequence=7, commit_time=at(11), state=state, route_revision=3, deliveries=deliveries
    )


def failed(number: int, start: int, outcome: AttemptOutcome.ValueType) -> DeliveryAttempt:
    return DeliveryAttempt(number=number, start_time=at(start), end_time=at(start + 5), outcome=outcome)


def names(events: list[Event]) -> list[tuple[int | None, str]]:
    return [(event.time.seconds if event.time else None, event.name) for event in events]


def test_what_failed_and_what_was_acknowledged_stand_in_the_order_of_time() -> None:
    bot = pb.DeliveryStatus(
        destination="bot",
        state=pb.DELIVERY_STATE_ACKNOWLEDGED,
        acknowledge_time=at(42),
        deliver_time=at(40),
        delivery_attempts=3,
        failed_attempts=[failed(1, 20, ATTEMPT_OUTCOME_NACKED), failed(2, 30, ATTEMPT_OUTCOME_EXPIRED)],
    )
    archive = pb.DeliveryStatus(
        destination="archive",
        state=pb.DELIVERY_STATE_ACKNOWLEDGED,
        acknowledge_time=at(22),
        deliver_time=at(21),
        delivery_attempts=1,
    )
    events = life(stored(bot, archive, state=pb.MESSAGE_STATE_DELIVERED), [])
    assert names(events) == [
        (10, "received"),
        (11, "stored"),
        (11, "routed"),
        (20, "handed out"),
        (21, "handed out"),
        (22, "acknowledged"),
        (25, "nacked"),
        (30, "handed out"),
        (35, "expired"),
        (40, "handed out"),
        (42, "acknowledged"),
    ]
    assert events[2].details == "no route matched (revision 3): to bot, archive"
    assert [event.details for event in events if event.name == "handed out"] == [
        "attempt 1",
        "attempt 1",
        "attempt 2",
        "attempt 3",
    ]


def test_what_is_out_is_handed_out_and_still_leased() -> None:
    leased = pb.DeliveryStatus(
        destination="bot", state=pb.DELIVERY_STATE_LEASED, deliver_time=at(20), delivery_attempts=1
    )
    assert names(life(stored(leased), []))[3:] == [(20, "handed out"), (None, "leased")]


def test_what_waits_after_a_failed_attempt_was_handed_out_once() -> None:
    waiting = pb.DeliveryStatus(
        destination="bot",
        state=pb.DELIVERY_STATE_WAITING,
        deliver_time=at(20),
        delivery_attempts=1,
        failed_attempts=[failed(1, 20, ATTEMPT_OUTCOME_NACKED)],
    )
    assert names(life(stored(waiting), []))[3:] == [(20, "handed out"), (25, "nacked"), (None, "waiting")]


def test_a_lease_that_went_back_uncounted_is_told_too() -> None:
    waiting = pb.DeliveryStatus(destination="bot", state=pb.DELIVERY_STATE_WAITING, deliver_time=at(20))
    handed_out = life(stored(waiting), [])[3]
    assert (handed_out.name, handed_out.details) == ("handed out", "went back uncounted")


def test_a_dead_letter_is_told_with_its_reason() -> None:
    dead = pb.DeliveryStatus(
        destination="bot",
        state=pb.DELIVERY_STATE_DEAD_LETTERED,
        deliver_time=at(20),
        delivery_attempts=1,
        failed_attempts=[failed(1, 20, ATTEMPT_OUTCOME_NACKED)],
    )
    letters = [
        DeadLetter(destination="bot", dead_letter_time=at(25), reason="1 of 1 attempts failed"),
        DeadLetter(destination="bot", dead_letter_time=at(90), reason="1 of 1 attempts failed", replayed=True),
    ]
    events = life(stored(dead), letters)
    assert names(events)[3:] == [(20, "handed out"), (25, "nacked"), (25, "dead-lettered"), (90, "dead-lettered")]
    assert [event.details for event in events[-2:]] == [
        "1 of 1 attempts failed",
        "1 of 1 attempts failed (of a replay)",
    ]


def test_what_is_held_says_why() -> None:
    held = stored(state=pb.MESSAGE_STATE_HELD)
    held.hold_reason = HOLD_REASON_UNROUTED
    now = life(held, [])[-1]
    assert (now.time, now.name, now.details) == (None, "held", "unrouted")


def test_what_was_discarded_says_so_once() -> None:
    assert names(life(stored(state=pb.MESSAGE_STATE_DISCARDED), []))[3:] == [(None, "discarded")]
    delivery = pb.DeliveryStatus(destination="bot", state=pb.DELIVERY_STATE_DISCARDED)
    assert names(life(stored(delivery, state=pb.MESSAGE_STATE_DISCARDED), []))[3:] == [(None, "discarded")]


def test_a_route_is_named_with_its_revision_and_what_came_before_it() -> None:
    message = stored(pb.DeliveryStatus(destination="bot", state=pb.DELIVERY_STATE_WAITING))
    message.route_id = "vip"
    message.assignment_reason = ASSIGNMENT_REASON_AFFINITY
    text = 'by route "vip" (revision 3): to bot; the conversation stays where it was routed'
    assert life(message, [])[2].details == text


def test_a_clash_stands_at_its_time() -> None:
    message = stored()
    message.clashes.add(message=MESSAGE, commit_time=at(12))
    assert names(life(message, []))[3] == (12, "clash")


def test_a_real_message_is_traced_from_its_receipt_to_its_end(mo: Mo) -> None:
    dead_letter(mo, "traced", "SM1")
    mo("dead-letter", "redrive", "traced", "traced", "SM1")
    mo("feed", "pull", "traced", "--ack")
    shown = mo("message", "trace", "traced", "SM1").stdout
    assert shown.splitlines()[0].split() == ["TIME", "EVENT", "DESTINATION", "DETAILS"]
    assert "Hello" not in shown
    events = mo("message", "trace", "traced", "SM1", "--json").objects
    assert [event["event"] for event in events] == [
        *("received", "stored", "routed"),
        *("handed out", "nacked", "handed out", "acknowledged"),
    ]
    assert events[-1]["destination"] == "traced"
    times = [datetime.fromisoformat(event["time"]) for event in events]
    assert times == sorted(times)


def test_a_message_that_is_not_there_is_said_in_one_line(mo: Mo) -> None:
    mo.create_channel("without")
    assert len(mo("message", "trace", "without", "SM404", code=1).stderr.splitlines()) == 1
