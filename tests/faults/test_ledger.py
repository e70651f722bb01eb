"""The books find what they are there to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.faults.ledger import Archived, Ledger, Posted, Seen

SENDER = "whatsapp:+1"


def a_ledger(*, messages: int = 3) -> Ledger:
    """One conversation, all of it posted and accepted."""
    ledger = Ledger()
    for number in range(messages):
        ledger.post(f"SM{number}", Posted(SENDER, number, f"body {number}"))
        ledger.accept(f"SM{number}")
    return ledger


def an_archive(*numbers: int) -> list[Archived]:
    """Messages in the order in which they are stored."""
    return [
        Archived(f"SM{number}", SENDER, f"body {number}", sequence) for sequence, number in enumerate(numbers, start=1)
    ]


def deliver(ledger: Ledger, *numbers: int, attempt: int = 1) -> None:
    for number in numbers:
        ledger.deliver(SENDER, Seen(f"SM{number}", number, attempt, deadline_at=attempt))


def found(ledger: Ledger, archive: Sequence[Archived]) -> dict[str, Sequence[str]]:
    verdict = ledger.judge(archive)
    assert verdict.is_clean is (not verdict.examples)
    return dict(verdict.examples)


def test_a_good_round_is_clean() -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1)
    assert ledger.undelivered == 1
    deliver(ledger, 2)
    assert ledger.undelivered == 0
    assert str(ledger.judge(an_archive(0, 1, 2))) == "clean"


def test_what_had_its_2xx_and_is_not_stored_is_lost() -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1, 2)
    assert found(ledger, an_archive(0, 2)) == {"lost": ["SM1"]}


def test_what_had_no_2xx_may_be_stored_or_not() -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1, 2)
    ledger.post("SM3", Posted(SENDER, 3, "body 3"))
    assert found(ledger, an_archive(0, 1, 2)) == {}
    assert found(ledger, an_archive(0, 1, 2, 3)) == {}


def test_what_is_stored_and_never_delivered_is_found() -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1)
    assert found(ledger, an_archive(0, 1, 2)) == {"never_delivered": ["SM2"]}


def test_what_is_stored_twice_is_found() -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1, 2)
    assert found(ledger, an_archive(0, 1, 2, 2)) == {"duplicated": ["SM2"]}


def test_what_was_never_sent_is_foreign() -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1, 2)
    assert found(ledger, an_archive(0, 1, 2, 3)) == {"foreign": ["SM3"]}


@pytest.mark.parametrize("change", [{"body": "other"}, {"sender": "whatsapp:+2"}])
def test_what_is_stored_otherwise_than_sent_is_altered(change: dict[str, str]) -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1, 2)
    *rest, last = an_archive(0, 1, 2)
    altered = Archived(**{**last._asdict(), **change})
    assert found(ledger, [*rest, altered]) == {"altered": ["SM2"]}


def test_an_archive_in_another_order_is_reordered_whatever_order_it_is_listed_in() -> None:
    ledger = a_ledger()
    deliver(ledger, 0, 1, 2)
    assert found(ledger, an_archive(0, 1, 2)[::-1]) == {}
    assert found(ledger, an_archive(0, 2, 1)) == {"reordered": ["SM1"]}


def test_first_deliveries_in_another_order_are_found_and_redeliveries_are_fine() -> None:
    ledger = a_ledger()
    deliver(ledger, 0)
    deliver(ledger, 0, attempt=2)
    deliver(ledger, 2, 1)
    assert found(ledger, an_archive(0, 1, 2)) == {"delivered_out_of_order": ["SM1"]}


@pytest.mark.parametrize(("attempt", "is_fault"), [(3, True), (2, True), (1, False)])
def test_a_delivery_after_its_ack_is_found_but_not_one_that_was_on_its_way_before(attempt: int, is_fault: bool) -> None:
    ledger = a_ledger(messages=1)
    deliver(ledger, 0, attempt=2)
    ledger.acknowledge(Seen("SM0", 0, 2, deadline_at=2))
    deliver(ledger, 0, attempt=attempt)
    assert found(ledger, an_archive(0)) == ({"delivered_after_ack": ["SM0"]} if is_fault else {})


def test_a_delivery_that_starts_counting_anew_after_its_ack_is_found() -> None:
    ledger = a_ledger(messages=1)
    deliver(ledger, 0, attempt=1)
    deliver(ledger, 0, attempt=2)
    ledger.acknowledge(Seen("SM0", 0, 2, deadline_at=2))
    ledger.deliver(SENDER, Seen("SM0", 0, 1, deadline_at=3))
    assert found(ledger, an_archive(0)) == {"delivered_after_ack": ["SM0"]}


def test_an_acknowledgement_that_is_answered_twice_is_found() -> None:
    ledger = a_ledger(messages=1)
    deliver(ledger, 0)
    ledger.note_surplus_answer("1.1")
    assert found(ledger, an_archive(0)) == {"answered_twice": ["1.1"]}


def test_a_verdict_names_examples() -> None:
    verdict = a_ledger().judge([])
    assert str(replace(verdict, examples={"lost": ["SM0", "SM1"]})) == "lost: SM0, SM1"


@pytest.mark.parametrize(("deadline_at", "is_fault"), [(3, True), (2, True), (1, False)])
def test_of_one_attempt_that_a_crash_let_begin_twice_the_later_delivery_is_found_after_its_ack(
    deadline_at: int, is_fault: bool
) -> None:
    ledger = a_ledger(messages=1)
    acknowledged = Seen("SM0", 0, 1, deadline_at=2)
    ledger.deliver(SENDER, acknowledged)
    ledger.acknowledge(acknowledged)
    ledger.deliver(SENDER, Seen("SM0", 0, 1, deadline_at))
    assert found(ledger, an_archive(0)) == ({"delivered_after_ack": ["SM0"]} if is_fault else {})
