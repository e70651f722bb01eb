"""The README's own code runs, and what it says of flags and answers is so."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.gateway import FORM, Gateway, running_gateway

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def code_blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


async def test_the_consumer_of_the_readme_prints_and_acknowledges_what_comes(gateway: Gateway) -> None:
    (consumer,) = code_blocks("python")
    await gateway.create_channel("C1")
    for number in range(3):
        await gateway.post("C1", FORM | {"MessageSid": f"SM{number}", "Body": f"Hello {number}"})

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", consumer, gateway.service.listen, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        printed = [(await process.stdout.readline()).decode() for _ in range(3)]
        while await backlog(gateway):
            pass  # each look is a call of its own
    finally:
        process.kill()
        await process.wait()

    assert printed == [f"{FORM['From']} Hello {number}\n" for number in range(3)]


async def backlog(gateway: Gateway) -> int:
    (status,) = await gateway.mo("status")
    return sum(int(destination.get("backlog", 0)) for destination in status["destinations"])


async def test_the_routes_of_the_readme_can_be_set(gateway: Gateway) -> None:
    routes = "\n".join(code_blocks("toml"))
    await gateway.create_channel("routed")
    await gateway.mo("route", "set", "routed", "-", stdin=routes)

    listed = await gateway.mo("route", "list", "routed")

    assert [route["route_id"] for route in listed] == ["handover", "orders", "night"]


def test_every_flag_of_the_processes_is_in_the_readme() -> None:
    for module in ("service", "shim"):
        text = subprocess.run(
            [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        flags = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", text, re.MULTILINE)) - {"--help"}
        missing = {flag for flag in flags if flag not in README and not flag.startswith("--max-")}
        assert not missing, module


def test_every_target_of_the_readme_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))

    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE)) <= targets
