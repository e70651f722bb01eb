"""Lets calls through whose caller has the role that they ask for, and refuses all others."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc

from service.access import ANONYMOUS, OPEN_METHODS, Need, Policy, Role, role_of
from service.errors import PermissionDenied
from service.rpc.identities import identity_of
from service.rpc.statuses import replace_behavior

log = logging.getLogger(__name__)

MOST_REMEMBERED = 1000

Needs = Callable[[Any], Iterable[Need]]
FindPolicy = Callable[[], Policy]


def _needs_of_ingest(request: Any) -> Iterable[Need]:
    if request.quarantine_entry_id:  # it settles what waits for an operator
        yield Need(Role.OPERATE)
        return
    yield Need(Role.INGEST, request.message.channel_config_id)


def _needs_of_batch(request: Any) -> Iterable[Need]:
    channels = {message.channel_config_id for message in request.messages} or {""}
    return [Need(Role.INGEST, channel) for channel in channels]


def _needs_of_assignment(request: Any) -> Iterable[Need]:
    yield Need(Role.ASSIGN)
    if request.ack_id or request.ack_destination:
        yield Need(Role.CONSUME, request.ack_destination)


def _needs_of_consumer(request: Any) -> Iterable[Need]:
    yield Need(Role.CONSUME, request.destination)


SCOPED: Mapping[str, Needs] = {
    "/aicc.mo.v1.MessageIngest/Ingest": _needs_of_ingest,
    "/aicc.mo.v1.MessageIngest/IngestBatch": _needs_of_batch,
    "/aicc.mo.v1.MessageIngest/AssignConversation": _needs_of_assignment,
    "/aicc.mo.v1.MessageFeed/Subscribe": _needs_of_consumer,
    "/aicc.mo.v1.MessageFeed/Pull": _needs_of_consumer,
    "/aicc.mo.v1.MessageFeed/Acknowledge": _needs_of_consumer,
    "/aicc.mo.v1.MessageFeed/ModifyAckDeadline": _needs_of_consumer,
}
"""Of calls whose need depends on the request: what it is. Of a stream of requests, the first one decides."""


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Checks each call against the policy of that moment.

    A call is let through or refused as a whole, before any of it is done. A stream that is open ends with its next
    response once its caller has lost the role. A method that the table doesn't know is refused to everybody. Stands
    behind `ErrorInterceptor`, which makes a status of what it raises.
    """

    def __init__(self, find_policy: FindPolicy) -> None:
        self._find_policy = find_policy
        self._guarded: dict[str, tuple[object, grpc.RpcMethodHandler[Any, Any]]] = {}
        """By method: what was guarded, and how. gRPC asks at each call."""
        self._told: set[tuple[str, str, str]] = set()
        self._told_of: Policy | None = None

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or method in OPEN_METHODS:
            return handler
        known = self._guarded.get(method)
        if known is None or known[0] is not handler:
            known = self._guarded[method] = (handler, self._guard(handler, method))
        return known[1]

    def _guard(self, handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
        check = partial(self._check, method, _find_needs(method))
        if handler.unary_unary:
            return replace_behavior(handler, _guard_unary(handler.unary_unary, check))
        if handler.unary_stream:
            return replace_behavior(handler, _guard_responses(handler.unary_stream, check, self._find_policy))
        return replace_behavior(handler, _guard_both(handler.stream_stream, check, self._find_policy))

    def _check(self, method: str, needs: Needs | None, request: Any, context: Any) -> None:
        """Raise `errors.PermissionDenied` unless the caller may."""
        identity = identity_of(context)
        if needs is None:
            raise PermissionDenied("no role may call this")
        missing = self._find_policy().find_missing(identity or ANONYMOUS, needs(request))
        if missing is not None:
            self._tell_once(method, identity or ANONYMOUS, str(missing))
            raise PermissionDenied(
                f'the role "{missing}" is missing: grant it to {_spell(identity)} in the --roles file of mo-service'
            )

    def _tell_once(self, method: str, identity: str, role: str) -> None:
        """Log it, but not again and again for a caller that doesn't give up."""
        policy = self._find_policy()
        if policy is not self._told_of or len(self._told) >= MOST_REMEMBERED:
            self._told, self._told_of = set(), policy
        if (method, identity, role) not in self._told:
            self._told.add((method, identity, role))
            log.warning("permission_denied", extra={"method": method, "identity": identity, "role": role})


def _spell(identity: str | None) -> str:
    return f'"{ANONYMOUS}", callers without a certificate,' if identity is None else f'"{identity}"'


def _find_needs(method: str) -> Needs | None:
    if method in SCOPED:
        return SCOPED[method]
    role = role_of(method)
    return None if role is None else partial(_always, (Need(role),))


def _always(needs: Iterable[Need], _request: Any) -> Iterable[Need]:
    return needs


Check = Callable[[Any, Any], None]


def _guard_unary(behavior: Any, check: Check) -> Any:
    async def call(request: Any, context: Any) -> Any:
        check(request, context)
        return await behavior(request, context)

    return call


def _guard_responses(behavior: Any, check: Check, find_policy: FindPolicy) -> Any:
    def call(request: Any, context: Any) -> AsyncIterator[Any]:
        check(request, context)
        return _while_allowed(behavior(request, context), partial(check, request, context), find_policy)

    return call


def _guard_both(behavior: Any, check: Check, find_policy: FindPolicy) -> Any:
    def call(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        first: list[Any] = []

        async def checked() -> AsyncIterator[Any]:
            async for request in requests:
                if not first:
                    check(request, context)
                    first.append(request)
                yield request

        return _while_allowed(behavior(checked(), context), lambda: check(first[0], context), find_policy)

    return call


async def _while_allowed(
    responses: AsyncGenerator[Any, None], check_again: Callable[[], None], find_policy: FindPolicy
) -> AsyncIterator[Any]:
    policy = find_policy()
    async with aclosing(responses):
        async for response in responses:
            if find_policy() is not policy:
                policy = find_policy()
                check_again()
            yield response
