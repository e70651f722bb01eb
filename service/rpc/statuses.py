"""The one place where errors become gRPC statuses, and calls are counted."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import lru_cache
from typing import Any

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from service import errors, metrics

log = logging.getLogger(__name__)

CODES: dict[type[errors.GatewayError], int] = {
    errors.InvalidRequest: code_pb2.INVALID_ARGUMENT,
    errors.NotFound: code_pb2.NOT_FOUND,
    errors.PermissionDenied: code_pb2.PERMISSION_DENIED,
    errors.AlreadyExists: code_pb2.ALREADY_EXISTS,
    errors.Conflict: code_pb2.ABORTED,
    errors.StillInUse: code_pb2.FAILED_PRECONDITION,
    errors.CannotSeal: code_pb2.FAILED_PRECONDITION,
    errors.StoreUnavailable: code_pb2.UNAVAILABLE,
    errors.Stopping: code_pb2.UNAVAILABLE,
}

OURS = ("/aicc.mo.", "/grpc.reflection.")
"""What may fail with errors of ours: reflection too, for want of a role."""


def status_of(error: errors.GatewayError) -> status_pb2.Status:
    """Return the status of an error, with `google.rpc.BadRequest` for an invalid request."""
    status = status_pb2.Status(code=CODES[type(error)], message=str(error))
    if isinstance(error, errors.InvalidRequest):
        detail = error_details_pb2.BadRequest(
            field_violations=[
                error_details_pb2.BadRequest.FieldViolation(field=field, description=description)
                for field, description in error.violations
            ]
        )
        status.details.add().Pack(detail)
    return status


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler: our errors become their status, anything else INTERNAL and one traceback."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if handler is None or not method.startswith(OURS):
            return handler
        return _wrap(handler, method)


@lru_cache(maxsize=200)
def _wrap(handler: Any, method: str) -> grpc.RpcMethodHandler[Any, Any]:
    """Wrap a handler; remembered, because gRPC asks for it at each call."""
    if handler.unary_unary:
        return replace_behavior(handler, _wrap_unary(handler.unary_unary, method))
    return replace_behavior(handler, _wrap_stream(handler.unary_stream or handler.stream_stream, method))


def replace_behavior(handler: Any, behavior: Any) -> grpc.RpcMethodHandler[Any, Any]:
    """Return a handler like this one that does something else. None of ours takes a stream and answers once."""
    make: Any = grpc.stream_stream_rpc_method_handler
    if handler.unary_unary:
        make = grpc.unary_unary_rpc_method_handler
    elif handler.unary_stream:
        make = grpc.unary_stream_rpc_method_handler
    made: grpc.RpcMethodHandler[Any, Any] = make(
        behavior, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
    )
    return made


def _wrap_unary(behavior: Any, method: str) -> Any:
    seconds = metrics.RPC_SECONDS.labels(method)

    async def call(request: Any, context: Any) -> Any:
        started = time.perf_counter()
        try:
            response = await behavior(request, context)
        except Exception as error:  # noqa: BLE001 - the one place that catches them all
            await _abort(context, method, error)
        metrics.count_rpc(method, "OK")
        seconds.observe(time.perf_counter() - started)
        return response

    return call


def _wrap_stream(behavior: Any, method: str) -> Any:
    async def call(request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async with aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    yield response
        except Exception as error:  # noqa: BLE001 - the one place that catches them all
            await _abort(context, method, error)
        metrics.count_rpc(method, "OK")

    return call


async def _abort(context: Any, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, errors.GatewayError):
        status = status_of(error)
    else:
        log.error("call_failed", extra={"method": method}, exc_info=error)
        status = status_pb2.Status(code=code_pb2.INTERNAL, message="the service failed; its log has the reason")
    metrics.count_rpc(method, code_pb2.Code.Name(status.code))
    await context.abort_with_status(rpc_status.to_status(status))
