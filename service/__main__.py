"""The service process: puts everything together, and takes it apart again in reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop

from service import metrics
from service.addresses import UNIX, is_taken
from service.admin import AdminServer
from service.channel_passwords import ChannelPasswords
from service.directory import ChannelDirectory
from service.errors import CannotSeal, StoreRefused
from service.feed import MessageFeed
from service.followed_files import BadFile
from service.logs import configure_logs
from service.passwords import Hasher
from service.privacy import keep_private
from service.readiness import Readiness
from service.replays import ReplayRunner
from service.retention import Pruner
from service.routed_channels import RoutedChannels
from service.rpc.credentials import build_credentials
from service.rpc.server import Health, build_server
from service.secrets import KeyFile
from service.security import Security, find_openness, tell_openness
from service.settings import NEEDS_ASYNCPG, Settings, build_command
from service.signals import Signal
from service.signatures import SignatureSecrets
from service.store.contract import Store
from service.store.sqlite import SqliteStore, microseconds_now
from service.tools import find_tool

if TYPE_CHECKING:  # at run time service.rpc imports it first, and quietens it
    import grpc

log = logging.getLogger("service")

DRAIN_SECONDS = 5.0

OBJECTS_BETWEEN_LOOKS = 20_000
"""As in a shim's worker. Python's own 700 are there again with a batch or two, and what is looked at then is in use."""


class CannotStart(Exception):
    """The process can't run as it was asked to; the message says what to do."""


@dataclass(frozen=True, slots=True)
class RunningService:
    """A service that answers. `listen` and `admin_listen` are "host:port", with the real ports; or `unix:PATH`."""

    listen: str
    admin_listen: str


class _Listener:
    """Passes the store's news on to the feed and the directory."""

    def __init__(self, feed: MessageFeed, changed: Signal) -> None:
        self._feed = feed
        self._changed = changed

    def on_ready(self, destinations: Collection[str]) -> None:
        self._feed.on_ready(destinations)

    def on_arrivals(self, counts: Mapping[str, int]) -> None:
        self._feed.on_arrivals(counts)

    def on_dead_letters(self, counts: Mapping[str, int]) -> None:
        for destination, count in counts.items():
            metrics.DEAD_LETTERS.inc(count)
            log.warning("dead_lettered", extra={"destination": destination, "messages": count})

    def on_directory_change(self) -> None:
        self._changed.fire()


@asynccontextmanager
async def open_service(settings: Settings) -> AsyncIterator[RunningService]:
    """Run a service on this event loop for as long as the context lasts.

    Raises `CannotStart`, `errors.StoreRefused` and `errors.CannotSeal`. Leaving it drains: calls under way are
    finished within 5 s, streams are ended, what the store was asked for is committed.
    """
    async with AsyncExitStack() as stack:
        security = _open_security(stack, settings)
        key_file = KeyFile(settings.secrets_key)
        key_file.check()
        store = await _open_store(settings)
        stack.push_async_callback(store.close)
        parts = _put_together(stack, settings, store, key_file, security)
        listen = _listen(parts.server, settings.listen, security)
        await parts.server.start()
        stack.push_async_callback(parts.server.stop, DRAIN_SECONDS)
        openness = () if security else find_openness(listen)
        readiness = parts.readiness
        readiness.keep(openness)
        admin_listen = await _open_admin(stack, settings.admin_listen, readiness)
        await readiness.look()
        _keep_running(stack, readiness.watch())
        if not security:
            tell_openness(listen)
        log.info("listening", extra={"listen": listen, "admin_listen": admin_listen})
        try:
            yield RunningService(listen, admin_listen)
        finally:
            await readiness.drain()
            parts.changed.close()
            parts.feed.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What has to be started, or told that it ends."""

    server: grpc.aio.Server
    readiness: Readiness
    feed: MessageFeed
    changed: Signal


def _put_together(
    stack: AsyncExitStack, settings: Settings, store: Store, key_file: KeyFile, security: Security | None
) -> _Parts:
    """Build everything on a store, up to a server that isn't started, and begin what runs by itself."""
    changed, replays_started = Signal(), Signal()
    feed = MessageFeed(store, microseconds_now, is_shared=store.is_shared)
    store.listen(_Listener(feed, changed))
    channels = RoutedChannels(store)
    hasher = Hasher(settings.hashing)
    stack.callback(hasher.close)
    directory = ChannelDirectory(store, channels, changed, hasher)
    health = Health()
    readiness = Readiness(store, health.set_serving)
    _keep_running(stack, channels.follow(changed, is_shared=store.is_shared))
    _keep_running(stack, ReplayRunner(store, replays_started, microseconds_now, is_shared=store.is_shared).run())
    _keep_running(stack, Pruner(store).run())
    server = build_server(
        channels=channels,
        directory=directory,
        passwords=ChannelPasswords(directory, store, hasher, microseconds_now),
        signatures=SignatureSecrets(directory, store, key_file, microseconds_now),
        feed=feed,
        store=store,
        health=health,
        find_concerns=lambda: readiness.concerns,
        replays_started=replays_started,
        clock=microseconds_now,
        find_policy=(lambda: security.roles.current) if security else None,
    )
    return _Parts(server, readiness, feed, changed)


async def _open_store(settings: Settings) -> Store:
    if isinstance(settings.store, Path):
        return SqliteStore.open(settings.store)
    try:
        from service.store.postgres import PostgresStore
    except ModuleNotFoundError:
        raise CannotStart(NEEDS_ASYNCPG) from None
    return await PostgresStore.open(settings.store, listen_dsn=settings.store_listen)


def _open_security(stack: AsyncExitStack, settings: Settings) -> Security | None:
    if settings.security is None:
        return None
    try:
        security = Security(settings.security)
    except BadFile as error:
        raise CannotStart(str(error)) from None
    _keep_running(stack, security.certificates.follow())
    _keep_running(stack, security.roles.follow())
    return security


def _listen(server: grpc.aio.Server, address: str, security: Security | None) -> str:
    try:
        if is_taken(address):
            port = 0
        elif security:
            port = server.add_secure_port(address, build_credentials(lambda: security.certificates.current))
        else:
            port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise CannotStart(
            f"can't listen on {address}: it is in use, or no address of this machine; give another one with --listen"
        )
    return address if address.startswith(UNIX) else f"{address.rpartition(':')[0]}:{port}"


async def _open_admin(stack: AsyncExitStack, address: str, readiness: Readiness) -> str:
    host, _, port = address.rpartition(":")
    try:
        admin = AdminServer(host.strip("[]"), int(port), readiness.find_reasons, readiness.find_concerns)
    except OSError as error:
        raise CannotStart(
            f"can't listen on {address}: {os.strerror(error.errno or 0)}; give another one with --admin-listen"
        ) from None
    stack.push_async_callback(admin.close)
    return f"{host}:{admin.port}"


def _keep_running(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work, name=getattr(work, "__qualname__", None))
    task.add_done_callback(_log_death)
    stack.push_async_callback(_cancel, task)


def _log_death(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("task_died", extra={"task": task.get_name()}, exc_info=error)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _run_until_signalled(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_or_exit, stop)
    async with open_service(settings):
        # What a start made stays to the end: the garbage collector needn't look through it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(OBJECTS_BETWEEN_LOOKS)
        await stop.wait()
        log.info("draining")
    log.info("stopped")


def _stop_or_exit(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(130)  # asked twice: don't wait for the drain
    stop.set()


def run(settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    configure_logs()
    keep_private()
    try:
        uvloop.run(_run_until_signalled(settings))  # a tenth less CPU than asyncio's own loop
    except (CannotStart, CannotSeal, StoreRefused) as error:
        sys.stderr.write(f"mo-service: {error}\n")
        return 1
    return 0


def main() -> None:
    """Run the command `mo-service`, or the tool that its first argument names."""
    name, *args = sys.argv[1:] or [""]
    if tool := find_tool(name):
        tool.main(args, prog_name=f"mo-service {name}")
    build_command(run)(prog_name="mo-service")


if __name__ == "__main__":
    main()
