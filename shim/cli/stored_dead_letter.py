"""How a dead letter reads: the columns of a list, and the lines of one. Pure."""

from collections.abc import Callable

from aicc.mo.v1.message_feed_pb2 import DeadLetter
from aicc.mo.v1.message_pb2 import AttemptOutcome, DeliveryAttempt

from shim.cli.stored_message import content_fields, type_text
from shim.cli.texts import enum_text, time_text


def dead_letter_columns(*, include_text: bool) -> dict[str, Callable[[DeadLetter], str]]:
    """Return the columns of a list of dead letters."""
    columns: dict[str, Callable[[DeadLetter], str]] = {
        "dead since": lambda item: time_text(item.dead_letter_time),
        "destination": lambda item: item.destination,
        "channel": lambda item: item.message.channel_config_id,
        "sid": lambda item: item.message.message_sid,
        "sender": lambda item: item.message.sender,
        "attempts": lambda item: str(len(item.attempts)),
        "reason": _reason_text,
    }
    if include_text:
        columns["body"] = lambda item: item.message.body
    return columns


def dead_letter_fields(item: DeadLetter) -> dict[str, str]:
    """Return the lines of `show`; its attempts are a table of their own."""
    sent = item.message
    return {
        "destination": item.destination,
        "channel": sent.channel_config_id,
        "sid": sent.message_sid,
        "sender": sent.sender,
        "receiver": sent.receiver,
        "type": type_text(sent),
        "received": time_text(sent.receive_time),
        "sequence": str(item.sequence),
        "dead since": time_text(item.dead_letter_time),
        "reason": _reason_text(item),
        **content_fields(sent),
    }


def attempt_columns() -> dict[str, Callable[[DeliveryAttempt], str]]:
    """Return the columns of the attempts that failed."""
    return {
        "attempt": lambda item: str(item.number),
        "handed out": lambda item: time_text(item.start_time),
        "ended": lambda item: time_text(item.end_time),
        "outcome": lambda item: enum_text(AttemptOutcome.Name(item.outcome), "ATTEMPT_OUTCOME_"),
    }


def _reason_text(item: DeadLetter) -> str:
    return f"{item.reason} (of a replay)" if item.replayed else item.reason
