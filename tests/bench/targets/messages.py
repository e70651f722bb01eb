"""What a message costs, beside a bare Tornado handler, a bare FastAPI handler and the usual stack; and how many fit.

Everybody is posted to by wrk in turn, as fast as they answer. CPU is that of all processes of a contender; where there
is a PostgreSQL, its part is also shown by itself. Two workers share the machine's cores with the service and with wrk:
with two cores they can't take much more than one does, and what they are asked is whether a message costs more: with
the connections that one worker has, shared as the kernel shares them, and with as many for each.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median

from tests.bench.baselines.running import running_baseline
from tests.bench.database import Database, running_database
from tests.bench.load import Manner, Target
from tests.bench.measuring import create_channel
from tests.bench.rounds import Contender, Round, alternate, clock_of, ratios
from tests.bench.scenario import Aimed, Figure, Figures, Options, spread
from tests.processes import running_service, running_shim

TORNADO, FASTAPI, USUAL = "(a) bare Tornado", "(b) bare FastAPI", "(c) usual stack"
OURS, CHALLENGED, REFUSED = "gateway", "gateway, challenged", "gateway, 401 alone"
TWO_WORKERS, TWO_BUSY_WORKERS = "gateway, 2 workers", "gateway, 2 workers, twice the connections"
ON_POSTGRES, CHALLENGED_ON_POSTGRES = "gateway on PostgreSQL", "gateway on PostgreSQL, challenged"
_ANYBODY = "Basic " + b64encode(b"bench:a password that nobody guesses").decode()

Rounds = Mapping[str, Sequence[Round]]


def run(options: Options) -> Figures:
    """Compare all contenders."""
    with ExitStack() as stack:
        database = stack.enter_context(running_database())
        contenders = [
            *_open_bare(stack),
            _open_usual_stack(stack, database),
            *_open_gateway(stack, options.folder),
            *_open_gateway_on_postgres(stack, options.folder, database),
        ]
        rounds = alternate(contenders, options)
    return {**_describe_costs(rounds), **_describe_throughput(rounds), **_describe_each(rounds)}


def run_quickly(options: Options) -> Figures:
    """Compare with (a) and (b) alone."""
    with ExitStack() as stack:
        gateway, *_ = _open_gateway(stack, options.folder, workers=())
        rounds = alternate([*_open_bare(stack), gateway], options)
    ours, tornado, fastapi = rounds[OURS], rounds[TORNADO], rounds[FASTAPI]
    return {
        "CPU a message / (a) bare Tornado": Aimed(1, ratios(ours, tornado), 0.8),
        "CPU a message / (b) bare FastAPI": Aimed(1, ratios(ours, fastapi), 1.0),
        "messages/s / (a) bare Tornado": Aimed(3, ratios(ours, tornado, _rate), 1.0, is_least=True),
        **_describe_each(rounds),
    }


def _open_bare(stack: ExitStack) -> Sequence[Contender]:
    tornado = stack.enter_context(running_baseline("tornado_form"))
    fastapi = stack.enter_context(running_baseline("fastapi_form"))
    return [
        Contender(TORNADO, Target(tornado.listen, _ANYBODY), {"app": clock_of(tornado)}),
        Contender(FASTAPI, Target(fastapi.listen, _ANYBODY), {"app": clock_of(fastapi)}),
    ]


def _open_usual_stack(stack: ExitStack, database: Database) -> Contender:
    app = stack.enter_context(running_baseline("usual_stack", store=database.make("usual")))
    return Contender(USUAL, Target(app.listen, _ANYBODY), {"app": clock_of(app), "postgres": database.cpu_seconds})


def _open_gateway(stack: ExitStack, folder: Path, workers: Sequence[int] = (2,)) -> Sequence[Contender]:
    """Shim and service on SQLite; and more shims before the same service, with so many workers."""
    service = stack.enter_context(running_service(folder))
    shim = stack.enter_context(running_shim(folder, service=service.listen))
    authorization = create_channel(service)
    target = partial(Target, shim.listen, authorization)
    cpu = {"shim": clock_of(shim), "service": clock_of(service)}
    contenders = [
        Contender(OURS, target(), cpu),
        Contender(CHALLENGED, target(Manner.CHALLENGED), cpu),
        Contender(REFUSED, target(Manner.NEVER), {"shim": clock_of(shim)}),
    ]
    for count in workers:
        larger = stack.enter_context(
            running_shim(folder, service=service.listen, workers=count, state_dir=folder / f"shim-{count}")
        )
        theirs = {"shim": clock_of(larger), "service": clock_of(service)}
        contenders += [
            Contender(TWO_WORKERS, Target(larger.listen, authorization), theirs),
            Contender(TWO_BUSY_WORKERS, Target(larger.listen, authorization), theirs, crowd=count),
        ]
    return contenders


def _open_gateway_on_postgres(stack: ExitStack, folder: Path, database: Database) -> Sequence[Contender]:
    service = stack.enter_context(running_service(folder, store=database.make("gateway")))
    shim = stack.enter_context(running_shim(folder, service=service.listen, state_dir=folder / "shim-postgres"))
    target = partial(Target, shim.listen, create_channel(service))
    cpu = {"shim": clock_of(shim), "service": clock_of(service), "postgres": database.cpu_seconds}
    return [
        Contender(ON_POSTGRES, target(), cpu),
        Contender(CHALLENGED_ON_POSTGRES, target(Manner.CHALLENGED), cpu),
    ]


def _describe_costs(rounds: Rounds) -> Figures:
    ours, usual = rounds[OURS], rounds[USUAL]
    without = partial(Round.total_us, without="postgres")
    their_apps = [round_.total_us(without="postgres") for round_ in usual]
    return {
        "CPU a message / (a) bare Tornado": Aimed(1, ratios(ours, rounds[TORNADO]), 0.8),
        "CPU a message / (b) bare FastAPI": Aimed(1, ratios(ours, rounds[FASTAPI]), 1.0),
        "CPU a message / (c) usual stack": Aimed(1, ratios(ours, usual), 0.2),
        "CPU a message / (c) without its PostgreSQL": Aimed(
            1, [each.total_us() / app for each, app in zip(ours, their_apps, strict=True)], 0.2
        ),
        "401 challenge: CPU / (a) bare Tornado": Aimed(2, ratios(rounds[REFUSED], rounds[TORNADO]), 0.7),
        "challenged: CPU a message / (a)": spread(ratios(rounds[CHALLENGED], rounds[TORNADO]), 2),
        "challenged: CPU a message / (b)": spread(ratios(rounds[CHALLENGED], rounds[FASTAPI]), 2),
        "challenged: CPU a message / (c)": spread(ratios(rounds[CHALLENGED], usual), 2),
        "on PostgreSQL: CPU a message / (c), both with it": spread(ratios(rounds[ON_POSTGRES], usual), 2),
        "on PostgreSQL: CPU a message / (c), both without": spread(ratios(rounds[ON_POSTGRES], usual, without), 2),
    }


def _describe_throughput(rounds: Rounds) -> Figures:
    ours, two, busy = rounds[OURS], rounds[TWO_WORKERS], rounds[TWO_BUSY_WORKERS]
    return {
        "messages/s / (a) bare Tornado": Aimed(3, ratios(ours, rounds[TORNADO], _rate), 1.0, is_least=True),
        "2 workers: CPU a message / 1 worker": Aimed(3, ratios(two, ours), 1.1),
        "2 workers: messages/s / 1 worker": spread(ratios(two, ours, _rate), 2),
        "2 workers, each with as many connections: CPU a message / 1 worker": spread(ratios(busy, ours), 2),
        "2 workers, each with as many connections: messages/s / 1 worker": spread(ratios(busy, ours, _rate), 2),
    }


def _describe_each(rounds: Rounds) -> Figures:
    figures: dict[str, Figure] = {}
    for name, found in rounds.items():
        parts = found[0].cpu_us
        figures[f"{name}: messages/s"] = spread([each.rate for each in found])
        for part in parts if len(parts) > 1 else ():
            figures[f"{name}: CPU us/message, {part}"] = spread([each.cpu_us[part] for each in found])
        figures[f"{name}: CPU us/message, all"] = spread([each.total_us() for each in found])
        if name != REFUSED:
            latencies = [median(each.sent.p50_ms for each in found), median(each.sent.p99_ms for each in found)]
            figures[f"{name}: answered after p50, p99 ms"] = ", ".join(f"{each:.1f}" for each in latencies)
    figures["answers other than expected"] = sum(each.sent.bad for found in rounds.values() for each in found)
    return figures


def _rate(round_: Round) -> float:
    return round_.rate
