"""A stand-in for the service, for failures that the real one can't be made to have."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable

import argon2
import grpc
import grpc.aio

from aicc.mo.v1.channel_directory_pb2 import (
    CHANNEL_STATE_ENABLED,
    ChannelReplica,
    ChannelState,
    GetChannelReplicaRequest,
    GetChannelReplicaResponse,
    PasswordHash,
    WatchChannelsRequest,
    WatchChannelsResponse,
)
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryServicer, add_ChannelDirectoryServicer_to_server
from aicc.mo.v1.message_ingest_pb2 import (
    INGEST_OUTCOME_ACCEPTED,
    IngestBatchRequest,
    IngestBatchResponse,
    IngestResult,
)
from aicc.mo.v1.message_ingest_pb2_grpc import MessageIngestServicer, add_MessageIngestServicer_to_server
from aicc.mo.v1.message_pb2 import MoMessage

USER = "mo-user"
PASSWORD = "correct horse"  # noqa: S105
SALT = b"sixteen bytes of"
HASHER = argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, hash_len=32)


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
    )


class FakeService(MessageIngestServicer, ChannelDirectoryServicer):
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
        self.questions: list[str] = []
        self.question_failure: grpc.StatusCode | None = None
        self.may_answer_questions = asyncio.Event()
        self.may_answer_questions.set()
        self.watches: list[WatchChannelsRequest] = []
        self.page_size = 1_000
        self.pages_before_break: int | None = None
        self.is_pushing = True
        self.changed = asyncio.Condition()
        self._server: grpc.aio.Server | None = None
        self._replicas: dict[str, ChannelReplica] = {}
        self._revisions = itertools.count(1)
        self.revision = 0

    @property
    def messages(self) -> list[MoMessage]:
        return list(itertools.chain.from_iterable(self.batches))

    async def start(self) -> None:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_MessageIngestServicer_to_server(self, server)
        add_ChannelDirectoryServicer_to_server(self, server)
        port = server.add_insecure_port(self.listen or "127.0.0.1:0")
        self.listen = f"127.0.0.1:{port}"
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
            self._replicas[replica.channel_config_id] = replica

    async def put(self, *replicas: ChannelReplica) -> None:
        """Change channels, and tell those who watch."""
        self.add(*replicas)
        async with self.changed:
            self.changed.notify_all()

    def restore(self, directory_id: str) -> None:
        """Be another directory from now on, an empty one."""
        self.directory_id = directory_id
        self._replicas.clear()
        self._revisions = itertools.count(1)
        self.revision = 0

    async def IngestBatch(  # noqa: N802
        self, request: IngestBatchRequest, context: grpc.aio.ServicerContext[IngestBatchRequest, IngestBatchResponse]
    ) -> IngestBatchResponse:
        self.batches.append(list(request.messages))
        self.arrived.set()
        await self.may_answer.wait()
        if self.ingest_failure:
            await context.abort(self.ingest_failure, "as told")
        return IngestBatchResponse(
            results=self.results or [IngestResult(outcome=INGEST_OUTCOME_ACCEPTED)] * len(request.messages)
        )

    async def GetChannelReplica(  # noqa: N802
        self,
        request: GetChannelReplicaRequest,
        context: grpc.aio.ServicerContext[GetChannelReplicaRequest, GetChannelReplicaResponse],
    ) -> GetChannelReplicaResponse:
        self.questions.append(request.channel_config_id)
        await self.may_answer_questions.wait()
        if self.question_failure:
            await context.abort(self.question_failure, "as told")
        return GetChannelReplicaResponse(channel=self._replicas.get(request.channel_config_id))

    async def WatchChannels(  # noqa: N802
        self,
        request: WatchChannelsRequest,
        context: grpc.aio.ServicerContext[WatchChannelsRequest, WatchChannelsResponse],
    ) -> AsyncIterator[WatchChannelsResponse]:
        self.watches.append(request)
        is_known = request.directory_id == self.directory_id
        known = request.after_revision if is_known else 0
        is_first = True
        sent = 0
        while True:
            due = sorted((r for r in self._replicas.values() if r.revision > known), key=lambda r: r.revision)
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
                )
                is_first = False
                sent += 1
            async with self.changed:
                await self.changed.wait_for(lambda: self.is_pushing and self.revision > known)
