"""A message's whole journey: posted over HTTP, read with `mo` and over gRPC."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from aicc.mo.v1 import message_feed_pb2 as feed_pb
from aicc.mo.v1.message_feed_pb2_grpc import MessageFeedStub
from aicc.mo.v1.message_pb2 import MoMessage
from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration

from shim.translation import TRANSLATORS
from tests.gateway.gateway import FORM, PAYLOADS, Gateway, running_gateway
from tests.shim.caller import Caller, basic

MESSAGES = [payload for payload in PAYLOADS if payload["name"] != "status-callback"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def parameters_of(message: dict[str, Any]) -> Counter[tuple[str, str]]:
    return Counter(TRANSLATORS["twilio"].to_form(json_format.ParseDict(message, MoMessage())))


async def test_every_payload_comes_out_of_the_feed_and_the_archive_with_every_parameter(gateway: Gateway) -> None:
    await gateway.create_channel("C1", "--destination", "payloads")
    await gateway.create_channel("fallback", "--destination", "fallback")
    channels = {payload["name"]: "fallback" if payload["name"] == "fallback" else "C1" for payload in MESSAGES}

    for payload in PAYLOADS:
        response = await gateway.post(channels.get(payload["name"], "C1"), payload["wire"].encode())
        assert (response.code, response.body) == (204, b""), payload["name"]

    pulled = await gateway.mo("feed", "pull", "payloads", "--max", "100", "--ack")
    pulled += await gateway.mo("feed", "pull", "fallback", "--ack")
    archived = await gateway.mo("message", "list", "--channel", "C1", "--include-text")
    archived += await gateway.mo("message", "list", "--channel", "fallback", "--include-text")
    assert len(pulled) == len(archived) == len(MESSAGES)
    assert {stored["state"] for stored in archived} == {"MESSAGE_STATE_DELIVERED"}
    for found in (pulled, archived):
        by_key = {(one["message"]["channel_config_id"], one["message"]["message_sid"]): one["message"] for one in found}
        for payload in MESSAGES:
            form, channel = payload["form"], channels[payload["name"]]
            assert parameters_of(by_key[channel, form["MessageSid"]]) == Counter(form.items()), payload["name"]


async def test_a_message_posted_fifty_times_at_once_is_delivered_once(gateway: Gateway) -> None:
    await gateway.create_channel("repeated", "--destination", "repeated")
    form = FORM | {"MessageSid": "SM1"}
    fallback = form | {"ErrorCode": "11200", "ErrorUrl": "https://example.test/"}

    responses = await asyncio.gather(*(gateway.post("repeated", fallback if turn % 2 else form) for turn in range(50)))

    assert {response.code for response in responses} == {204}
    assert len(await gateway.mo("feed", "pull", "repeated", "--max", "10", "--wait", "0.5", "--ack")) == 1
    assert len(await gateway.mo("message", "list", "--channel", "repeated")) == 1


async def test_twenty_consumers_share_two_thousand_messages_one_of_them_dying(gateway: Gateway) -> None:
    await gateway.create_channel("shared", "--destination", "shared")
    senders, each = 100, 20
    await asyncio.gather(*(_write(gateway, number, each) for number in range(senders)))

    consumption = Consumption(gateway, senders * each)
    async with asyncio.timeout(100):
        await consumption.run(consumers=20)

    assert consumption.overlaps == 0
    assert len(set(consumption.acknowledged)) == len(consumption.acknowledged) == senders * each
    assert all(seen == sorted(seen) for seen in consumption.bodies.values())
    assert {len(seen) for seen in consumption.bodies.values()} == {each}


async def _write(gateway: Gateway, sender: int, count: int) -> None:
    path = "/social/on/whatsapp/twilio/message/shared"
    authorization = basic("twilio", gateway.passwords["shared"])
    async with Caller(gateway.shim.listen) as caller:
        for number in range(count):
            sid = f"SM{sender}-{number}"
            form = FORM | {"From": f"whatsapp:+{sender:09d}", "MessageSid": sid, "Body": f"{number:03d}"}
            assert (await caller.post(form, path=path, authorization=authorization)).status == 204


class Consumption:
    """Consumers on one destination, and what they see. The first one dies with what it was first given."""

    def __init__(self, gateway: Gateway, expected: int) -> None:
        self._gateway = gateway
        self._expected = expected
        self._held: set[str] = set()
        self._finished = asyncio.Event()
        self.overlaps = 0
        self.acknowledged: list[int] = []
        self.bodies: dict[str, list[str]] = {}

    async def run(self, *, consumers: int) -> None:
        async with grpc.aio.insecure_channel(self._gateway.service.listen) as channel:
            feed = MessageFeedStub(channel)
            await self._die(feed)
            tasks = [asyncio.create_task(self._consume(feed)) for _ in range(consumers - 1)]
            await self._finished.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _die(self, feed: MessageFeedStub) -> None:
        call = feed.Subscribe()
        await call.write(feed_pb.SubscribeRequest(destination="shared", ack_deadline=Duration(seconds=2)))
        response = await call.read()
        assert isinstance(response, feed_pb.SubscribeResponse)
        assert response.deliveries
        call.cancel()

    async def _consume(self, feed: MessageFeedStub) -> None:
        call = feed.Subscribe()
        await call.write(feed_pb.SubscribeRequest(destination="shared", max_outstanding_messages=10))
        while isinstance(response := await call.read(), feed_pb.SubscribeResponse):
            self._take(response)
            await asyncio.sleep(0.005)  # work that takes its time
            self._give_up(response)
            await call.write(feed_pb.SubscribeRequest(ack_ids=[delivery.ack_id for delivery in response.deliveries]))

    def _take(self, response: feed_pb.SubscribeResponse) -> None:
        for delivery in response.deliveries:
            self.overlaps += delivery.message.sender in self._held
            self._held.add(delivery.message.sender)

    def _give_up(self, response: feed_pb.SubscribeResponse) -> None:
        for delivery in response.deliveries:
            self._held.discard(delivery.message.sender)
            self.acknowledged.append(delivery.sequence)
            self.bodies.setdefault(delivery.message.sender, []).append(delivery.message.body)
        if len(self.acknowledged) == self._expected:
            self._finished.set()
