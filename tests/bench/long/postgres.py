"""The same messages on SQLite, and on PostgreSQL with one and two replicas of the service.

Two workers of the shim, and all on the cores of one machine: what a replica more can bring is not to be seen here, what
it costs is. PostgreSQL's CPU is its own line, and in the sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace

from tests.bench.database import Database, running_database
from tests.bench.load import Target
from tests.bench.measuring import create_channel
from tests.bench.rounds import Contender, alternate, clock_of, ratios
from tests.bench.scenario import Figure, Figures, Options, spread
from tests.processes import Process, running_service, running_shim

_MOST_SECONDS = 5.0
_WORKERS = 2
ON_SQLITE = "SQLite"


def run(options: Options) -> Figures:
    """Compare them in turn."""
    with ExitStack() as stack:
        database = stack.enter_context(running_database())
        contenders = [
            _open_gateway(stack, options, ON_SQLITE, [f"sqlite:///{options.folder / 'mo.db'}"]),
            *(_open_replicas(stack, options, database, count) for count in (1, 2)),
        ]
        rounds = alternate(contenders, replace(options, seconds=min(options.seconds, _MOST_SECONDS)))
    figures: dict[str, Figure] = {}
    for name, found in rounds.items():
        figures[f"{name}: messages/s"] = spread([each.rate for each in found])
        for part in found[0].cpu_us:
            figures[f"{name}: CPU us/message, {part}"] = spread([each.cpu_us[part] for each in found])
        figures[f"{name}: CPU us/message, all"] = spread([each.total_us() for each in found])
        if name != ON_SQLITE:
            figures[f"{name}: CPU a message / SQLite"] = spread(ratios(found, rounds[ON_SQLITE]), 2)
    figures["answers other than expected"] = sum(each.sent.bad for found in rounds.values() for each in found)
    return figures


def _open_replicas(stack: ExitStack, options: Options, database: Database, count: int) -> Contender:
    name = f"PostgreSQL, {count} replica" + ("s" if count > 1 else "")
    contender = _open_gateway(stack, options, name, [database.make(f"replicas_{count}")] * count)
    return replace(contender, cpu={**contender.cpu, "postgres": database.cpu_seconds})


def _open_gateway(stack: ExitStack, options: Options, name: str, urls: Sequence[str]) -> Contender:
    folder = options.folder / name.replace(" ", "-").replace(",", "")
    folder.mkdir()
    services: list[Process] = [stack.enter_context(running_service(folder, store=url)) for url in urls]
    addresses = ",".join(service.listen for service in services)
    shim = stack.enter_context(running_shim(folder, service=addresses, workers=_WORKERS))
    target = Target(shim.listen, create_channel(services[0]))
    clocks = [clock_of(service) for service in services]
    return Contender(name, target, {"shim": clock_of(shim), "service": lambda: sum(clock() for clock in clocks)})
