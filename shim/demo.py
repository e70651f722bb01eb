"""The launcher behind `make run`: service and shim on this machine, and a channel to try them with.

    python -m shim.demo [--var-dir var]

Ports are those of the README; the variables of both processes
(MO_SERVICE_LISTEN, MO_SHIM_LISTEN, …) override them. Ctrl-C stops the shim,
then the service; a second one kills both.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import os
import shlex
import signal
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path

from shim.demo_children import Child, DemoError, LogFile
from shim.privacy import keep_private

CHANNEL = "demo"
USER = "demo"

_START_SECONDS = 30.0
_OLDEST_PYTHON = (3, 11)


def main() -> None:
    """Run until interrupted; exits with 0 then, and with 1 when it can't start or a process ends."""
    if sys.version_info[:2] < _OLDEST_PYTHON:
        sys.exit(f"mo demo: Python 3.11 or newer is needed, this is {sys.version.split()[0]}")
    parser = argparse.ArgumentParser(prog="python -m shim.demo", description="Service and shim with a demo channel.")
    parser.add_argument("--var-dir", type=Path, default=Path("var"), help="where the data goes (default: var)")
    var_dir = parser.parse_args().var_dir
    keep_private()
    try:
        var_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        sys.exit(asyncio.run(_run_until_stopped(var_dir)))
    except DemoError as error:
        sys.exit(f"mo demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"mo demo: {error.filename or var_dir}: {error.strerror}; name another folder with --var-dir")


async def _run_until_stopped(var_dir: Path) -> int:
    """Run the demo until a signal comes; returns the exit code. Raises `DemoError` when it can't go on."""
    loop = asyncio.get_running_loop()
    signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, signals.put_nowait, number)
    children: list[Child] = []
    demo = asyncio.create_task(_run(var_dir, children))
    if not await _is_asked_before_end(signals, demo):
        demo.result()
    _say("stopping")
    demo.cancel()
    if await _is_asked_before_end(signals, demo):
        for child in children:
            child.kill()
        await asyncio.wait({demo})
        return 130
    return 0


async def _is_asked_before_end(signals: asyncio.Queue[signal.Signals], demo: asyncio.Task[None]) -> bool:
    """Wait for a signal or the end of the demo, and tell whether it was the signal."""
    asked = asyncio.create_task(signals.get())
    await asyncio.wait({demo, asked}, return_when=asyncio.FIRST_COMPLETED)
    asked.cancel()
    return not demo.done()


async def _run(var_dir: Path, children: list[Child]) -> None:
    """Start both, tell how to use them, and wait for one to end, which raises `DemoError`.

    However it ends, they are stopped first, the shim before the service.
    """
    async with contextlib.AsyncExitStack() as stack:
        service = await _start("service", _service_flags(var_dir), var_dir, children, stack)
        shim = await _start("shim", _shim_flags(var_dir, service.listen), var_dir, children, stack)
        # Imported only now: what can go wrong above needs no gRPC.
        from shim.cli.demo_channel import prepare_channel

        remark = await prepare_channel(_reachable(service.listen), CHANNEL, USER, var_dir / "demo-password")
        await _wait_until_ready(shim)
        _say(_usage(var_dir, service, shim, remark))
        for child in children:
            child.is_echoing = True
        await asyncio.wait([child.ended for child in children], return_when=asyncio.FIRST_COMPLETED)
        raise DemoError(next(child for child in children if child.ended.done()).last_words())


async def _start(
    module: str, flags: Mapping[str, str], var_dir: Path, children: list[Child], stack: contextlib.AsyncExitStack
) -> Child:
    """Start a process that the stack stops, and wait until it listens. Raises `DemoError` when it doesn't."""
    # A variable of the same meaning wins: the process reads it itself.
    prefix = f"MO_{module.upper()}_"
    arguments = [
        argument
        for flag, value in flags.items()
        if prefix + flag.upper().replace("-", "_") not in os.environ
        for argument in (f"--{flag}", value)
    ]
    child = await Child.start(module, arguments, LogFile(var_dir / f"{module}.log"))
    children.append(child)
    stack.push_async_callback(child.stop)
    await asyncio.wait({child.listening, child.ended}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    if child.listening.done():
        return child
    if child.ended.done():
        raise DemoError(child.last_words())
    raise DemoError(f"the {module} did not listen within {_START_SECONDS:g} s; see {var_dir / module}.log")


async def _wait_until_ready(shim: Child) -> None:
    """Return when the shim takes messages: it listens before it knows the channels."""
    try:
        async with asyncio.timeout(_START_SECONDS):
            while await asyncio.to_thread(_readiness, _reachable(shim.admin_listen)) != HTTPStatus.OK:
                await asyncio.wait({shim.ended}, timeout=0.05)
                if shim.ended.done():
                    raise DemoError(shim.last_words())
    except TimeoutError as error:
        raise DemoError(f"the shim was not ready within {_START_SECONDS:g} s; its log tells why") from error


def _readiness(address: str) -> int:
    """Return the status of /readyz; 0 when there was no answer."""
    try:
        with contextlib.closing(http.client.HTTPConnection(address, timeout=2)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0


def _service_flags(var_dir: Path) -> dict[str, str]:
    return {
        "listen": "127.0.0.1:50051",
        "admin-listen": "127.0.0.1:8082",
        "store": f"sqlite:///{var_dir / 'mo.db'}",
    }


def _shim_flags(var_dir: Path, service: str) -> dict[str, str]:
    return {
        "listen": "127.0.0.1:8080",
        "admin-listen": "127.0.0.1:8081",
        "service": _reachable(service),
        "state-dir": str(var_dir / "shim"),
    }


def _usage(var_dir: Path, service: Child, shim: Child, remark: str) -> str:
    """Return what a person does next, ready to copy."""
    url = f"http://{_reachable(shim.listen)}/social/on/whatsapp/twilio/message/{CHANNEL}"
    return "\n".join(
        [
            f"service: gRPC on {service.listen}, process {service.pid}",
            f"shim: HTTP on {shim.listen}, process {shim.pid}",
            f"data and logs are in {var_dir}",
            remark,
            "",
            "Post a message, as Twilio does:",
            f"  {_curl_line(url, var_dir)}",
            "and read it:",
            f"  {_mo_command(_reachable(service.listen))} feed pull default --wait 5 --ack",
            "",
            "Ctrl-C stops both.",
        ]
    )


def _curl_line(url: str, var_dir: Path) -> str:
    # A proxy for the internet would not find this machine.
    proxy = "--noproxy '*' " if os.environ.keys() & {"http_proxy", "all_proxy", "ALL_PROXY"} else ""
    return (
        f'curl -i {proxy}-u "{USER}:$(cat {shlex.quote(str(var_dir / "demo-password"))})" '
        "--data-urlencode From=whatsapp:+447700900123 --data-urlencode To=whatsapp:+14155238886 "
        "-d MessageType=text --data-urlencode 'Body=Hello' "
        f"-d MessageSid=SM$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n') {url}"
    )


def _mo_command(service: str) -> str:
    """Return how to call `mo` from here: the one beside this Python."""
    beside = Path(sys.executable).with_name("mo")
    if beside.is_relative_to(Path.cwd()):
        beside = beside.relative_to(Path.cwd())
    command = shlex.quote(str(beside)) if beside.exists() else f"{shlex.quote(sys.executable)} -m shim.cli"
    is_default = service == "127.0.0.1:50051" and "MO_SERVICE" not in os.environ
    return command if is_default else f"{command} --service {service}"


def _reachable(listen: str) -> str:
    """Return where to connect to for an address to listen on, which may mean every interface."""
    host, _, port = listen.rpartition(":")
    is_every_interface = not host.strip("0.:[]")
    if not is_every_interface:
        return listen
    return f"[::1]:{port}" if ":" in host else f"127.0.0.1:{port}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
