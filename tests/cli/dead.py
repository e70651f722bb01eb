"""Messages that are dead letters: one attempt, and it fails."""

from __future__ import annotations

from aicc.mo.v1.message_feed_pb2 import ModifyAckDeadlineRequest, ModifyAckDeadlineResponse
from aicc.mo.v1.message_pb2 import ACK_STATUS_OK

from tests.cli.commands import Mo


def nack(mo: Mo, destination: str) -> list[str]:
    """Take what there is in a destination, give it back as failed, and return the MessageSids."""
    lines = mo("feed", "pull", destination, "--max", "1000").objects
    if not lines:
        return []
    request = ModifyAckDeadlineRequest(destination=destination, ack_ids=[line["ack_id"] for line in lines])
    response = mo.call("MessageFeed/ModifyAckDeadline", request, ModifyAckDeadlineResponse.FromString)
    assert {result.status for result in response.results} == {ACK_STATUS_OK}
    return [line["message"]["message_sid"] for line in lines]


def dead_letter(mo: Mo, name: str, *sids: str) -> None:
    """Create a channel and a destination of that name, and let messages of one conversation fail there."""
    mo.create_channel(name, "--destination", name)
    mo("destination", "update", name, "--max-attempts", "1", "--min-backoff", "0", "--max-backoff", "0")
    mo.ingest(name, *sids)
    # One of a conversation is out at a time; each is given up with its only attempt.
    assert [sid for _ in sids for sid in nack(mo, name)] == list(sids)
    assert mo("destination", "show", name, "--json").object["dead_letters"] == str(len(sids))
