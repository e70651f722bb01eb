"""A stand-in for the service, for failures that the real one can't be made to have."""

import asyncio
import functools
import itertools
from collections.abc import AsyncIterator, Iterable
from typing import Any

import argon2
import grpc
import grpc.aio
from aicc.mo.v1.channel_directory_pb2 import (
    CHANNEL_STATE_ENABLED,
    SIGNATURE_CHECK_OFF,
    ChannelReplica,
    ChannelState,
    GetChannelReplicaRequest,
    GetChannelReplicaResponse,
    PasswordHash,
    PasswordHashing,
    ReportPasswordUsesRequest,
    ReportPasswordUsesResponse,
    ReportSignaturesRequest,
    ReportSignaturesResponse,
    SealedSecret,
    SignatureCheck,
    UpgradePasswordHashRequest,
    UpgradePasswordHashResponse,
    WatchChannelsRequest,
    WatchChannelsResponse,
)
from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_ACCEPTED,
    IngestBatchRequest,
    IngestBatchResponse,
    IngestResult,
    QuarantinedRequest,
    QuarantineRequest,
    QuarantineResponse,
)
from aicc.mo.v1.message_pb2 import MoMessage

from tests.ports import reserve_address

Context = grpc.aio.ServicerContext[Any, Any]

USER = "mo-user"
PASSWORD = "correct horse"
SALT = b"sixteen bytes of"
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=64, parallelism=1, hash_len=32)
"""A quick one: what it costs is tested nowhere here."""


@functools.cache
def hash_password(password: str, *, salt: bytes = SALT) -> str:
    return HASHER.hash(password, salt=salt)


def make_replica(
    channel_config_id: str = "C1",
    *,
    passwords: Iterable[str | PasswordHash] = (PASSWORD,),
    user: str = USER,
    provider: str = "twilio",
    state: ChannelState.ValueType = CHANNEL_STATE_ENABLED,
    credential_revision: int = 1,
    infer_message_type: bool = False,
    deleted: bool = False,
    signature_check: SignatureCheck.ValueType = SIGNATURE_CHECK_OFF,
    signature_secrets: Iterable[SealedSecret] = (),
) -> ChannelReplica:
    return ChannelReplica(
        channel_config_id=channel_config_id,
        provider=provider,
        state=state,
        webhook_user=user,
        password_hashes=[
            PasswordHash(phc=hash_password(password)) if isinstance(password, str) else password
            for password in passwords
        ],
        credential_revision=credential_revision,
        infer_message_type=infer_message_type,
        deleted=deleted,
        signature_check=signature_check,
        signature_secrets=signature_secrets,
    )


class FakeService:
    """A directory whose changes reach watchers at once, and an ingest that answers as it is told."""

    def __init__(self) -> None:
        self.listen = ""
        self.directory_id = "directory-1"
        self.batches: list[list[MoMessage]] = []
        self.arrived = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.results: list[IngestResult] = []
        self.ingest_failure: grpc.StatusCode | None = None
        self.outcomes: dict[str, IngestResult] = {}
        """What becomes of a message, by its MessageSid."""
        self.poison: dict[str, grpc.StatusCode] = {}
        """What a batch fails with that has such a message."""
        self.from_journal: list[bool] = []
        self.quarantined: dict[str, QuarantinedRequest] = {}
        self.quarantine_failure: grpc.StatusCode | None = None
        self.quarantine_changed = asyncio.Event()
        self.questions: list[str] = []
        self.asked = asyncio.Event()
        self.question_failure: grpc.StatusCode | None = None
        self.may_answer_questions = asyncio.Event()
        self.may_answer_questions.set()
        self.watches: list[WatchChannelsRequest] = []
        self.page_size = 1_000
        self.pages_before_break: int | None = None
        self.signatures: list[ReportSignaturesRequest] = []
        self.signatures_failure: grpc.StatusCode | None = None
        self.wanted_hashing: PasswordHashing | None = None
        self.password_uses: list[ReportPasswordUsesRequest] = []
        self.password_uses_failure: grpc.StatusCode | None = None
        self.upgrades: asyncio.Queue[UpgradePasswordHashRequest] = asyncio.Queue()
        self.changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self.replicas: dict[str, ChannelReplica] = {}
        self._revisions = itertools.count(1)
        self.revision = 0

    @property
    def messages(self) -> list[MoMessage]:
        return list(itertools.chain.from_iterable(self.batches))

    async def start(self) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers(self._handlers())
        self.listen = self.listen or reserve_address()
        server.add_insecure_port(self.listen)
        await server.start()
        self._server = server

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(None)
            self._server = None

    def add(self, *replicas: ChannelReplica) -> None:
        """Change channels, without a word to those who watch."""
        for replica in replicas:
            self.revision = next(self._revisions)
            replica.revision = self.revision
            self.replicas[replica.channel_config_id] = replica

    async def put(self, *replicas: ChannelReplica) -> None:
        """Change channels, and tell those who watch."""
        self.add(*replicas)
        async with self.changed:
            self.changed.notify_all()

    def restore(self, directory_id: str) -> None:
        """Be another directory from now on, an empty one."""
        self.directory_id = directory_id
        self.replicas.clear()
        self._revisions = itertools.count(1)
        self.revision = 0

    async def _ingest(self, request: IngestBatchRequest, context: Context) -> IngestBatchResponse:
        self.batches.append(list(request.messages))
        self.arrived.set()
        await self.may_answer.wait()
        if self.ingest_failure:
            await context.abort(self.ingest_failure, "as told")
        for message in request.messages:
            if code := self.poison.get(message.message_sid):
                await context.abort(code, "as told")
        self.from_journal += [request.is_from_journal] * len(request.messages)
        accepted = IngestResult(outcome=INGEST_OUTCOME_ACCEPTED)
        return IngestBatchResponse(
            results=self.results or [self.outcomes.get(message.message_sid, accepted) for message in request.messages]
        )

    async def _quarantine(self, request: QuarantineRequest, context: Context) -> QuarantineResponse:
        if self.quarantine_failure:
            await context.abort(self.quarantine_failure, "as told")
        for quarantined in request.requests:
            self.quarantined.setdefault(quarantined.entry_id, quarantined)
        self.quarantine_changed.set()
        return QuarantineResponse()

    async def _answer_question(self, request: GetChannelReplicaRequest, context: Context) -> GetChannelReplicaResponse:
        self.questions.append(request.channel_config_id)
        self.asked.set()
        await self.may_answer_questions.wait()
        if self.question_failure:
            await context.abort(self.question_failure, "as told")
        return GetChannelReplicaResponse(channel=self.replicas.get(request.channel_config_id))

    async def _count_signatures(self, request: ReportSignaturesRequest, context: Context) -> ReportSignaturesResponse:
        if self.signatures_failure:
            await context.abort(self.signatures_failure, "as told")
        self.signatures.append(request)
        return ReportSignaturesResponse()

    async def _note_uses(self, request: ReportPasswordUsesRequest, context: Context) -> ReportPasswordUsesResponse:
        if self.password_uses_failure:
            await context.abort(self.password_uses_failure, "as told")
        self.password_uses.append(request)
        return ReportPasswordUsesResponse()

    async def _upgrade(self, request: UpgradePasswordHashRequest, context: Context) -> UpgradePasswordHashResponse:
        self.upgrades.put_nowait(request)
        return UpgradePasswordHashResponse(upgraded=True)

    async def _watch(self, request: WatchChannelsRequest, context: Context) -> AsyncIterator[WatchChannelsResponse]:
        self.watches.append(request)
        is_known = request.directory_id == self.directory_id and request.after_revision <= self.revision
        known = request.after_revision if is_known else 0
        is_first = True
        sent = 0
        while True:
            due = sorted((r for r in self.replicas.values() if r.revision > known), key=lambda r: r.revision)
            for start in range(0, max(len(due), 1), self.page_size):
                if sent == self.pages_before_break:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "as told")
                page = due[start : start + self.page_size]
                known = page[-1].revision if page else max(known, self.revision)
                is_last = start + self.page_size >= len(due)
                yield WatchChannelsResponse(
                    directory_id=self.directory_id,
                    reset=is_first and not is_known,
                    channels=page,
                    revision=known,
                    caught_up=is_last,
                    wanted_hashing=self.wanted_hashing,
                )
                is_first = False
                sent += 1
            async with self.changed:
                while self.revision <= known:
                    await self.changed.wait()

    def _handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        return (
            grpc.method_handlers_generic_handler(
                "aicc.mo.v1.MessageIngest",
                {
                    "IngestBatch": grpc.unary_unary_rpc_method_handler(
                        self._ingest,
                        request_deserializer=IngestBatchRequest.FromString,
                        response_serializer=IngestBatchResponse.SerializeToString,
                    ),
                    "Quarantine": grpc.unary_unary_rpc_method_handler(
                        self._quarantine,
                        request_deserializer=QuarantineRequest.FromString,
                        response_serializer=QuarantineResponse.SerializeToString,
                    ),
                },
            ),
            grpc.method_handlers_generic_handler(
                "aicc.mo.v1.ChannelDirectory",
                {
                    "GetChannelReplica": grpc.unary_unary_rpc_method_handler(
                        self._answer_question,
                        request_deserializer=GetChannelReplicaRequest.FromString,
                        response_serializer=GetChannelReplicaResponse.SerializeToString,
                    ),
                    "ReportSignatures": grpc.unary_unary_rpc_method_handler(
                        self._count_signatures,
                        request_deserializer=ReportSignaturesRequest.FromString,
                        response_serializer=ReportSignaturesResponse.SerializeToString,
                    ),
                    "ReportPasswordUses": grpc.unary_unary_rpc_method_handler(
                        self._note_uses,
                        request_deserializer=ReportPasswordUsesRequest.FromString,
                        response_serializer=ReportPasswordUsesResponse.SerializeToString,
                    ),
                    "UpgradePasswordHash": grpc.unary_unary_rpc_method_handler(
                        self._upgrade,
                        request_deserializer=UpgradePasswordHashRequest.FromString,
                        response_serializer=UpgradePasswordHashResponse.SerializeToString,
                    ),
                    "WatchChannels": grpc.unary_stream_rpc_method_handler(
                        self._watch,
                        request_deserializer=WatchChannelsRequest.FromString,
                        response_serializer=WatchChannelsResponse.SerializeToString,
                    ),
                },
            ),
        )
