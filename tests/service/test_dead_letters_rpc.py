"""MessageFeed over a real connection: dead letters."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from aicc.mo.v1 import message_feed_pb2 as pb
from aicc.mo.v1 import message_pb2 as message_pb

from tests.service.feeding import (
    AT_ONCE,
    acknowledge,
    configure,
    find_destination,
    give_back,
    ingest,
    ingest_conversations,
    pull,
    pull_one,
    sids_of,
)
from tests.service.stubs import Client, violations_of

EVERYTHING = pb.DeadLetterSelection(is_everything=True)


@pytest.fixture
async def impatient(client: Client) -> Client:
    """A channel whose destination gives messages up after one attempt."""
    await client.create_channel()
    await configure(client, AT_ONCE)
    await configure(client, pb.DestinationSettings(max_attempts=1))
    return client


async def give_up(client: Client, count: int) -> None:
    """Let the next messages become dead letters."""
    for _ in range(count):
        await give_back(client, await pull_one(client))


async def list_all(client: Client, **values: Any) -> list[pb.DeadLetter]:
    return list((await client.feed.ListDeadLetters(pb.ListDeadLettersRequest(**values))).dead_letters)


def sids(found: list[pb.DeadLetter]) -> list[str]:
    return [entry.message.message_sid for entry in found]


async def test_a_dead_letter_tells_why_and_what_was_tried(impatient: Client) -> None:
    await ingest(impatient, "SM1", body="secret")
    await give_up(impatient, 1)

    (found,) = await list_all(impatient)

    assert (found.destination, found.sequence, found.message.message_sid) == ("default", 1, "SM1")
    assert found.reason == "1 attempts failed; the last one ended because a consumer gave it back"
    assert [(each.number, each.outcome) for each in found.attempts] == [(1, message_pb.ATTEMPT_OUTCOME_NACKED)]
    assert not found.replayed


async def test_what_people_wrote_is_shown_to_who_asks_for_it(impatient: Client) -> None:
    await ingest(impatient, "SM1", body="secret")
    await give_up(impatient, 1)

    (without,) = await list_all(impatient)
    (with_text,) = await list_all(impatient, include_text=True)

    assert "secret" not in str(without)
    assert with_text.message.body == "secret"


async def test_dead_letters_are_listed_newest_first_page_by_page(impatient: Client) -> None:
    await ingest_conversations(impatient, 5)
    await give_up(impatient, 5)
    found: list[str] = []
    token = ""
    pages = 0
    while token or not pages:
        response = await impatient.feed.ListDeadLetters(pb.ListDeadLettersRequest(page_size=2, page_token=token))
        found += sids(list(response.dead_letters))
        token = response.next_page_token
        pages += 1

    assert (found, pages) == (["SM4", "SM3", "SM2", "SM1", "SM0"], 3)


async def test_a_page_is_no_larger_than_every_client_takes(impatient: Client) -> None:
    for number in range(5):
        await ingest(impatient, f"SM{number}", body="x" * 1_000_000)
    await give_up(impatient, 5)

    first = await impatient.feed.ListDeadLetters(pb.ListDeadLettersRequest(include_text=True))
    second = await impatient.feed.ListDeadLetters(
        pb.ListDeadLettersRequest(include_text=True, page_token=first.next_page_token)
    )

    assert [sids(list(page.dead_letters)) for page in (first, second)] == [["SM4", "SM3"], ["SM2", "SM1"]]


async def test_dead_letters_are_found_by_destination_channel_and_message(impatient: Client) -> None:
    await impatient.create_channel("C2")
    await ingest(impatient, "SM1", "SM2")
    await ingest(impatient, "SM1", channel_config_id="C2")
    await give_up(impatient, 3)

    assert len(await list_all(impatient, destination="default")) == 3
    assert await list_all(impatient, destination="other") == []
    assert sids(await list_all(impatient, channel_config_id="C1")) == ["SM2", "SM1"]
    assert len(await list_all(impatient, channel_config_id="C2", message_sid="SM1")) == 1


async def test_redriven_messages_come_first_in_their_order_with_their_attempts_forgotten(impatient: Client) -> None:
    await ingest(impatient, "SM1", "SM2", "SM3")
    await give_up(impatient, 2)

    response = await impatient.feed.RedriveDeadLetters(pb.RedriveDeadLettersRequest(selection=EVERYTHING))
    seen = []
    for _ in range(3):
        seen.append(await pull_one(impatient))
        await acknowledge(impatient, seen[-1])

    assert (response.redriven, response.next_page_token) == (2, "")
    assert sids_of(seen) == ["SM1", "SM2", "SM3"]
    assert [delivery.delivery_attempt for delivery in seen] == [1, 1, 1]
    assert await list_all(impatient) == []


async def test_a_repeated_redrive_finds_nothing(impatient: Client) -> None:
    await ingest(impatient, "SM1")
    await give_up(impatient, 1)
    request = pb.RedriveDeadLettersRequest(selection=EVERYTHING)

    counts = [(await impatient.feed.RedriveDeadLetters(request)).redriven for _ in range(2)]

    assert counts == [1, 0]


async def test_discarded_dead_letters_are_not_delivered_and_stay_in_the_archive(impatient: Client) -> None:
    await ingest_conversations(impatient, 2)
    await give_up(impatient, 2)
    key = message_pb.MessageKey(channel_config_id="C1", message_sid="SM0")
    request = pb.DiscardDeadLettersRequest(selection=pb.DeadLetterSelection(keys=[key]))

    counts = [(await impatient.feed.DiscardDeadLetters(request)).discarded for _ in range(2)]
    stored = await impatient.archive.GetMessage(archive_pb.GetMessageRequest(channel_config_id="C1", message_sid="SM0"))

    assert counts == [1, 0]
    assert await pull(impatient) == []
    assert stored.message.message.message_sid == "SM0"
    assert (await find_destination(impatient)).dead_letters == 1


@pytest.mark.parametrize(
    ("selection", "field"),
    [
        pytest.param(pb.DeadLetterSelection(), "selection", id="nothing is said"),
        pytest.param(
            pb.DeadLetterSelection(keys=[message_pb.MessageKey()] * 1001), "selection.keys", id="too many are named"
        ),
    ],
)
async def test_a_selection_that_can_not_be_is_refused(
    client: Client, selection: pb.DeadLetterSelection, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.feed.RedriveDeadLetters(pb.RedriveDeadLettersRequest(selection=selection))

    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations_of(caught.value)) == [field]


async def test_a_message_is_looked_for_in_a_channel(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await list_all(client, message_sid="SM1")

    assert list(violations_of(caught.value)) == ["channel_config_id"]
