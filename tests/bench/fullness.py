"""What a message costs in a store that is full of something, beside one that is not: side by side, in turn.

Messages go to 100 channels, everywhere the same ones. What they store themselves stays, so that the empty store is
empty only at first; beside what the full ones hold, that is little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

from tests.bench.bulk import fill_in_bulk
from tests.bench.filling import AUTHORIZATION, is_sqlite, make_channels, make_messages, opened
from tests.bench.load import Target
from tests.bench.measuring import resident_mib
from tests.bench.rounds import Contender, CpuClock, alternate, clock_of, measure, ratios
from tests.bench.scenario import Aimed, Figure, Figures, Options, spread
from tests.processes import Process, running_service, running_shim

_MOST = 1.2
_MOST_SECONDS = 5.0
_WARM_UP_SECONDS = 6.0
"""Each of the channels has its password computed once."""


@dataclass(frozen=True)
class Fill:
    """What a store is full of."""

    channels: int = 100
    stored: int = 0
    """Messages that were delivered and acknowledged."""
    backlog: int = 0
    """Messages that nobody has taken."""


EMPTY = "100 channels, nothing stored"
FILLS = {
    EMPTY: Fill(),
    "100,000 channels": Fill(channels=100_000),
    "2,000,000 stored messages": Fill(stored=2_000_000),
    "a backlog of 500,000": Fill(backlog=500_000),
}


def compare_fills(
    options: Options, make_url: Callable[[str], str], more_cpu: Mapping[str, CpuClock] | None = None
) -> Figures:
    """Fill the stores at the URLs that are made for their names, and compare what a message costs."""
    options = replace(options, seconds=min(options.seconds, _MOST_SECONDS))
    with ExitStack() as stack:
        shims: dict[str, Process] = {}
        contenders = []
        for number, (name, fill) in enumerate(FILLS.items()):
            url = make_url(f"fill_{number}")
            asyncio.run(_fill(url, fill, partial(_tell, options, name)))
            contender, shims[name] = _open_gateway(stack, options, name, url, more_cpu or {})
            contenders.append(contender)
        for contender in contenders:
            options.tell(f"{contender.name}: passwords are computed")
            measure(contender, replace(options, connections=8), _WARM_UP_SECONDS)
        rounds = alternate(contenders, options)
        memory = {name: [resident_mib(pid) for pid in shim.worker_pids] for name, shim in shims.items()}
    figures: dict[str, Figure] = {
        f"{name}: CPU a message / empty": Aimed(7, ratios(found, rounds[EMPTY]), _MOST)
        for name, found in rounds.items()
        if name != EMPTY
    }
    for name, found in rounds.items():
        figures[f"{name}: messages/s"] = spread([each.rate for each in found])
        for part in found[0].cpu_us:
            figures[f"{name}: CPU us/message, {part}"] = spread([each.cpu_us[part] for each in found])
        figures[f"{name}: worker's MiB"] = round(max(memory[name]), 1)
    figures["answers other than expected"] = sum(each.sent.bad for found in rounds.values() for each in found)
    return figures


def _tell(options: Options, name: str, line: str) -> None:
    options.tell(f"{name}: {line}")


async def _fill(url: str, fill: Fill, tell: Callable[[str], None]) -> None:
    if not is_sqlite(url):
        await fill_in_bulk(url, tell, channels=fill.channels, stored=fill.stored, backlog=fill.backlog)
        return
    async with opened(url) as store:
        await make_channels(store, range(fill.channels), tell)
        await make_messages(store, fill.stored, tell, are_settled=True)
        await make_messages(store, fill.backlog, tell, are_settled=False)


def _open_gateway(
    stack: ExitStack, options: Options, name: str, url: str, more_cpu: Mapping[str, CpuClock]
) -> tuple[Contender, Process]:
    folder = options.folder / name.replace(" ", "-")
    folder.mkdir()
    service = stack.enter_context(running_service(folder, store=url))
    shim = stack.enter_context(running_shim(folder, service=service.listen))
    options.tell(f"{name}: the shim learns its channels")
    shim.wait_for_event("directory_received", timeout=300)
    cpu = {"shim": clock_of(shim), "service": clock_of(service), **more_cpu}
    return Contender(name, Target(shim.listen, AUTHORIZATION, channels=Fill.channels), cpu), shim
