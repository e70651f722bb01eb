"""`ChannelDirectory` over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from itertools import accumulate
from typing import Any

from aicc.mo.v1 import channel_directory_pb2 as pb
from aicc.mo.v1 import message_pb2 as message_pb
from aicc.mo.v1.channel_directory_pb2_grpc import ChannelDirectoryServicer

from service import checks
from service.channel_passwords import DEFAULT_GRACE_SECONDS, ChannelPasswords
from service.directory import ChannelDirectory
from service.errors import InvalidRequest, Violation
from service.models import DirectoryPosition
from service.route_trials import Difference
from service.routing import RouteWarning
from service.rpc import paging
from service.rpc.actors import actor_of
from service.rpc.convert import seconds_of, to_timestamp
from service.rpc.convert_passwords import add_last_uses, from_use, to_hashing
from service.rpc.convert_routes import (
    change_channel,
    from_new_channel,
    from_route,
    read_facts,
    to_channel,
    to_replica,
    to_route,
    to_route_revision,
)
from service.rpc.convert_signatures import KINDS_BACK, from_report, to_count
from service.shims import ShimReports
from service.signatures import SignatureSecrets

DEFAULT_TRIED = 1000
DEFAULT_REVISIONS = 20
MOST_REVISIONS = 100
MOST_BYTES = 2 * 1024 * 1024
"""Of a page, but for its first item: clients refuse more than 4 MiB unless told otherwise."""


class DirectoryServicer(ChannelDirectoryServicer):
    """Unwraps channels, and wraps what became of them."""

    def __init__(
        self,
        directory: ChannelDirectory,
        passwords: ChannelPasswords,
        signatures: SignatureSecrets,
        shims: ShimReports[pb.ShimReport],
    ) -> None:
        self._directory = directory
        self._passwords = passwords
        self._signatures = signatures
        self._shims = shims

    async def CreateChannel(self, request: pb.CreateChannelRequest, context: Any) -> pb.CreateChannelResponse:
        channel, generated = await self._directory.create(
            from_new_channel(request.channel), request.password, actor=actor_of(context)
        )
        return pb.CreateChannelResponse(channel=to_channel(channel), generated_password=generated)

    async def GetChannel(self, request: pb.GetChannelRequest, _context: Any) -> pb.GetChannelResponse:
        found = await self._directory.load(request.channel_config_id)
        channel = to_channel(found)
        counts = await self._signatures.find_counts(request.channel_config_id)
        channel.signature_counts.extend(to_count(count) for count in counts)
        add_last_uses(channel, await self._passwords.find_last_uses(found))
        return pb.GetChannelResponse(channel=channel)

    async def ListChannels(self, request: pb.ListChannelsRequest, _context: Any) -> pb.ListChannelsResponse:
        limit = paging.page_size(request.page_size)
        after = paging.read_token(request.page_token)
        channels = await self._directory.list(after=after, limit=limit + 1)
        more = len(channels) > limit
        return pb.ListChannelsResponse(
            channels=[to_channel(channel) for channel in channels[:limit]],
            next_page_token=paging.write_token(channels[limit - 1].channel_config_id) if more else "",
        )

    async def UpdateChannel(self, request: pb.UpdateChannelRequest, context: Any) -> pb.UpdateChannelResponse:
        channel = await self._directory.update(
            request.channel.channel_config_id,
            lambda current: change_channel(current, request.channel, request.update_mask.paths),
            expected=_revision_of(request.channel.etag),
            actor=actor_of(context),
        )
        return pb.UpdateChannelResponse(channel=to_channel(channel))

    async def DeleteChannel(self, request: pb.DeleteChannelRequest, context: Any) -> pb.DeleteChannelResponse:
        expected = _revision_of(request.etag)
        await self._directory.delete(request.channel_config_id, expected=expected, actor=actor_of(context))
        return pb.DeleteChannelResponse()

    async def RotatePassword(self, request: pb.RotatePasswordRequest, context: Any) -> pb.RotatePasswordResponse:
        has_grace = request.HasField("grace_period")
        channel, generated = await self._passwords.rotate(
            request.channel_config_id,
            request.password,
            grace_seconds=seconds_of(request.grace_period) if has_grace else DEFAULT_GRACE_SECONDS,
            actor=actor_of(context),
        )
        return pb.RotatePasswordResponse(channel=to_channel(channel), generated_password=generated)

    async def AddSignatureSecret(
        self, request: pb.AddSignatureSecretRequest, context: Any
    ) -> pb.AddSignatureSecretResponse:
        channel, secret_id = await self._signatures.add(
            request.channel_config_id, KINDS_BACK.get(request.kind), request.secret, actor=actor_of(context)
        )
        return pb.AddSignatureSecretResponse(channel=to_channel(channel), secret_id=secret_id)

    async def RemoveSignatureSecret(
        self, request: pb.RemoveSignatureSecretRequest, context: Any
    ) -> pb.RemoveSignatureSecretResponse:
        channel = await self._signatures.remove(request.channel_config_id, request.secret_id, actor=actor_of(context))
        return pb.RemoveSignatureSecretResponse(channel=to_channel(channel))

    async def RotateSecrets(self, request: pb.RotateSecretsRequest, context: Any) -> pb.RotateSecretsResponse:
        after = paging.read_token(request.page_token)
        rotated = await self._signatures.rotate(after=after, actor=actor_of(context))
        return pb.RotateSecretsResponse(
            secrets=rotated.secrets,
            resealed=rotated.resealed,
            unreadable_channel_config_ids=rotated.unreadable,
            next_page_token=paging.write_token(rotated.next_after) if rotated.next_after else "",
        )

    async def GetRoutes(self, request: pb.GetRoutesRequest, _context: Any) -> pb.GetRoutesResponse:
        channel = await self._directory.load(request.channel_config_id)
        return pb.GetRoutesResponse(
            routes=[to_route(route) for route in channel.routes], revision=channel.route_revision
        )

    async def SetRoutes(self, request: pb.SetRoutesRequest, context: Any) -> pb.SetRoutesResponse:
        revision, warnings = await self._directory.replace_routes(
            request.channel_config_id,
            [from_route(route) for route in request.routes],
            expected=request.expected_revision if request.HasField("expected_revision") else None,
            actor=actor_of(context),
        )
        return pb.SetRoutesResponse(revision=revision, warnings=_to_warnings(warnings))

    async def TryRoutes(self, request: pb.TryRoutesRequest, _context: Any) -> pb.TryRoutesResponse:
        trial, warnings = await self._directory.try_routes(
            request.channel_config_id,
            [from_route(route) for route in request.routes],
            read_facts,
            most_messages=request.max_messages or DEFAULT_TRIED,
        )
        return pb.TryRoutesResponse(
            messages=trial.messages,
            different=trial.different,
            differences=[_to_difference(each) for each in trial.differences],
            warnings=_to_warnings(warnings),
        )

    async def ListRouteRevisions(
        self, request: pb.ListRouteRevisionsRequest, _context: Any
    ) -> pb.ListRouteRevisionsResponse:
        limit = min(paging.page_size(request.page_size or DEFAULT_REVISIONS), MOST_REVISIONS)
        revisions = await self._directory.list_route_revisions(
            request.channel_config_id, before=paging.read_position(request.page_token), limit=limit + 1
        )
        page = _that_fit([to_route_revision(revision) for revision in revisions[:limit]])
        more = len(revisions) > len(page)
        return pb.ListRouteRevisionsResponse(
            revisions=page, next_page_token=paging.write_position(page[-1].revision if more else None)
        )

    async def WatchChannels(
        self, request: pb.WatchChannelsRequest, _context: Any
    ) -> AsyncIterator[pb.WatchChannelsResponse]:
        wanted = to_hashing(self._passwords.hashing)
        has_replica = bool(request.directory_id)
        after = DirectoryPosition(request.directory_id, request.after_revision) if has_replica else None
        async for changes in self._directory.watch(after):
            here = changes.position
            yield pb.WatchChannelsResponse(
                directory_id=here.directory_id,
                reset=changes.is_reset,
                channels=[to_replica(channel) for channel in changes.channels],
                revision=here.revision,
                caught_up=changes.caught_up,
                wanted_hashing=wanted,
            )

    async def GetChannelReplica(
        self, request: pb.GetChannelReplicaRequest, _context: Any
    ) -> pb.GetChannelReplicaResponse:
        channel = await self._directory.find_replica(request.channel_config_id)
        return pb.GetChannelReplicaResponse(channel=to_replica(channel) if channel else None)

    async def ReportSignatures(self, request: pb.ReportSignaturesRequest, _context: Any) -> pb.ReportSignaturesResponse:
        await self._signatures.add_counts(from_report(request))
        return pb.ReportSignaturesResponse()

    async def ReportPasswordUses(
        self, request: pb.ReportPasswordUsesRequest, _context: Any
    ) -> pb.ReportPasswordUsesResponse:
        await self._passwords.note_uses([from_use(use) for use in request.uses])
        return pb.ReportPasswordUsesResponse()

    async def UpgradePasswordHash(
        self, request: pb.UpgradePasswordHashRequest, context: Any
    ) -> pb.UpgradePasswordHashResponse:
        upgraded = await self._passwords.upgrade(
            request.channel_config_id,
            request.phc,
            credential_revision=request.credential_revision,
            actor=actor_of(context),
        )
        return pb.UpgradePasswordHashResponse(upgraded=upgraded)

    async def ReportShim(self, request: pb.ReportShimRequest, _context: Any) -> pb.ReportShimResponse:
        checks.refuse(checks.check_name("report.host_id", request.report.host_id))
        self._shims.put(request.report.host_id, request.report)
        return pb.ReportShimResponse()

    async def ListShims(self, _request: pb.ListShimsRequest, _context: Any) -> pb.ListShimsResponse:
        response = pb.ListShimsResponse()
        for report, at in self._shims.list():
            shim = response.shims.add()
            shim.CopyFrom(report)
            shim.report_time.CopyFrom(to_timestamp(at))
        return response


def _revision_of(etag: str) -> int | None:
    if not etag:
        return None
    if not (etag.isascii() and etag.isdigit() and len(etag) < 19):
        raise InvalidRequest([Violation("etag", "is none of ours; give the one that the channel was read with")])
    return int(etag)


def _that_fit(revisions: Sequence[pb.RouteRevision]) -> Sequence[pb.RouteRevision]:
    sizes = accumulate(revision.ByteSize() for revision in revisions)
    return revisions[: max(1, sum(size <= MOST_BYTES for size in sizes))]


def _to_warnings(warnings: Iterable[RouteWarning]) -> list[pb.RouteWarning]:
    return [pb.RouteWarning(route_id=route_id, description=description) for route_id, description in warnings]


def _to_difference(difference: Difference) -> pb.RouteDifference:
    return pb.RouteDifference(
        message_sid=message_pb.MoMessage.FromString(difference.payload).message_sid,
        route_id=difference.today.route_id,
        destinations=difference.today.destinations,
        draft_route_id=difference.draft.route_id,
        draft_destinations=difference.draft.destinations,
    )
