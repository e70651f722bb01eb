"""Which role each call asks for: the one table. The comment of each RPC in the proto files says the same.

Some calls ask for more by what is in the request: `rpc.access.SCOPED`.
"""

from __future__ import annotations

from collections.abc import Mapping

from service.access.roles import Role

ROLES: Mapping[str, Mapping[str, Role]] = {
    "aicc.mo.v1.MessageIngest": {
        "Ingest": Role.INGEST,
        "IngestBatch": Role.INGEST,
        "Quarantine": Role.SHIM,
        "ExplainRoute": Role.READ,
        "AssignConversation": Role.ASSIGN,
    },
    "aicc.mo.v1.ChannelDirectory": {
        "CreateChannel": Role.OPERATE,
        "GetChannel": Role.READ,
        "ListChannels": Role.READ,
        "UpdateChannel": Role.OPERATE,
        "DeleteChannel": Role.OPERATE,
        "RotatePassword": Role.OPERATE,
        "AddSignatureSecret": Role.OPERATE,
        "RemoveSignatureSecret": Role.OPERATE,
        "RotateSecrets": Role.OPERATE,
        "GetRoutes": Role.READ,
        "SetRoutes": Role.OPERATE,
        "TryRoutes": Role.READ,
        "ListRouteRevisions": Role.READ,
        "WatchChannels": Role.SHIM,
        "GetChannelReplica": Role.SHIM,
        "ReportShim": Role.SHIM,
        "ReportSignatures": Role.SHIM,
        "ReportPasswordUses": Role.SHIM,
        "UpgradePasswordHash": Role.SHIM,
        "ListShims": Role.READ,
    },
    "aicc.mo.v1.MessageFeed": {
        "Subscribe": Role.CONSUME,
        "Pull": Role.CONSUME,
        "Acknowledge": Role.CONSUME,
        "ModifyAckDeadline": Role.CONSUME,
        "ListDestinations": Role.READ,
        "UpdateDestination": Role.OPERATE,
        "ListDeadLetters": Role.READ,
        "RedriveDeadLetters": Role.OPERATE,
        "DiscardDeadLetters": Role.OPERATE,
        "StartReplay": Role.OPERATE,
        "GetReplay": Role.READ,
        "ListReplays": Role.READ,
        "CancelReplay": Role.OPERATE,
    },
    "aicc.mo.v1.MessageArchive": {
        "GetMessage": Role.READ,
        "ListMessages": Role.READ,
        "ReleaseHeld": Role.OPERATE,
        "DiscardHeld": Role.OPERATE,
        "ReRoute": Role.OPERATE,
        "ListQuarantined": Role.READ,
        "GetQuarantined": Role.READ,
        "DiscardQuarantined": Role.OPERATE,
        "GetSummary": Role.READ,
        "EraseSender": Role.OPERATE,
        "ListAuditEntries": Role.READ,
    },
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": Role.READ},
}

OPEN_METHODS = frozenset(
    {"/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List"}
)
"""What every caller may ask."""


def role_of(method: str) -> Role | None:
    """Return the role that `/package.Service/Method` asks for; None when the table doesn't know it."""
    service, _, name = method.removeprefix("/").partition("/")
    return ROLES.get(service, {}).get(name)
