"""The accounting test at length: on each store several rounds on one gateway, each with a seed of its own.

`make test-full` and `make soak` run it. A round that finds something wrong ends it, keeps all data and says how to
repeat the round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.accounting import Plan, Round
from tests.faults.chaos import FaultKind
from tests.faults.gateway import Gateway
from tests.faults.senders import Traffic
from tests.faults.setups import Setup
from tests.faults.table import describe

_TABLE_SECONDS = 60.0
_ROUNDS_EACH_OUTAGE = 10
"""On SQLite the second of so many rounds is one long outage of the service."""
_LEAST_ROUNDS = {Setup.SQLITE: 2, Setup.POSTGRES: 1, Setup.PGBOUNCER: 1}


def main() -> None:
    """Run from the command line: see `--help`."""
    arguments = _parse_arguments()
    chosen = arguments.store or list(Setup)
    minutes = arguments.minutes + 60 * arguments.hours
    for setup in chosen:
        share = setup.share / sum(each.share for each in chosen)
        try:
            _run_apart(setup, arguments, 60 * minutes * share)
        except pytest.skip.Exception as skipped:
            print(f"SKIPPED on {setup.value}: {skipped}", flush=True)
        except pytest.fail.Exception as failed:
            sys.exit(f"make test-full: {failed}")


def _run_apart(setup: Setup, arguments: argparse.Namespace, seconds: float) -> None:
    """Run on one store, in a folder of its own. It stays, and the process ends, when something went wrong."""
    folder = Path(tempfile.mkdtemp(prefix="mo-faults-"))
    with _log_of_processes(folder):
        is_clean = asyncio.run(_run(setup, folder, arguments, seconds))
    if not is_clean:
        sys.exit(f"make test-full: the books don't balance; data and log are kept in {folder}")
    shutil.rmtree(folder)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--store", action="append", type=Setup, help="sqlite, postgres or pgbouncer; without it, all")
    parser.add_argument("--seed", default=secrets.token_hex(4), help="decides everything that is left to chance")
    parser.add_argument("--rounds", type=int, default=0, help="how many on each; 0: as many as there is time for")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all stores, but for their first rounds")
    parser.add_argument("--hours", type=float, default=0.0, help="in addition")
    parser.add_argument("--outage", action="store_true", help="begin with the round in which the service is away")
    parser.add_argument("--workers", type=int, default=2, help="of all shims together")
    parser.add_argument("--conversations", type=int, default=200)
    parser.add_argument("--messages-each", type=int, default=50, help="at least, in a round")
    parser.add_argument("--times-each", type=int, default=3, help="how often a round causes each kind of fault")
    parser.add_argument("--without", action="append", default=[], type=FaultKind, help="a kind of fault to leave out")
    return parser.parse_args()


async def _run(setup: Setup, folder: Path, arguments: argparse.Namespace, seconds: float) -> bool:
    """Run rounds until one goes wrong or the time is over; tell whether all were clean."""
    rounds: list[Round] = []
    ends_at = time.monotonic() + seconds
    async with setup.open(folder, workers=arguments.workers) as gateway:
        ticker = asyncio.create_task(_print_now_and_then(rounds, gateway))
        try:
            while len(rounds) < (arguments.rounds or _LEAST_ROUNDS[setup]) or (
                not arguments.rounds and time.monotonic() < ends_at
            ):
                if not await _run_one(setup, rounds, gateway, arguments):
                    return False
        finally:
            ticker.cancel()
            print(describe(rounds, gateway.title), end="\n\n", flush=True)
    return True


async def _run_one(setup: Setup, rounds: list[Round], gateway: Gateway, arguments: argparse.Namespace) -> bool:
    number = len(rounds)
    seed = arguments.seed if number == 0 else f"{arguments.seed}.{number}"
    is_outage = setup is Setup.SQLITE and number % _ROUNDS_EACH_OUTAGE == (0 if arguments.outage else 1)
    current = Round(_plan(setup, seed, f"C{number}", arguments, is_outage=is_outage))
    rounds.append(current)
    how = f"--store {setup.value} --seed {seed} --rounds 1" + (" --outage" if is_outage else "")
    print(f"round {number + 1}; the same again: python -m tests.faults {how}", flush=True)
    await current.run(gateway)
    assert current.verdict
    if current.is_clean:
        current.ledger.forget()
        return True
    answers = f"answers {dict(current.answers.statuses)}, {current.answers.needless} of them needless"
    print(f"seed {seed}: {current.verdict}; {answers}", flush=True)
    return False


def _plan(setup: Setup, seed: str, channel: str, arguments: argparse.Namespace, *, is_outage: bool) -> Plan:
    usual = [kind for kind in setup.faults if kind not in arguments.without]
    faults = [FaultKind.SERVICE_AWAY] if is_outage else usual
    traffic = Traffic(conversations=arguments.conversations, messages_each=arguments.messages_each)
    times_each = 1 if is_outage else arguments.times_each
    return Plan(seed, channel, traffic, faults, times_each, settle_seconds=120)


async def _print_now_and_then(rounds: list[Round], gateway: Gateway) -> None:
    while True:
        await asyncio.sleep(_TABLE_SECONDS)
        print(describe(rounds, gateway.title), end="\n\n", flush=True)


@contextlib.contextmanager
def _log_of_processes(folder: Path) -> Iterator[None]:
    """Keep what the processes logged beside their data: it is for whoever looks into a failure."""
    with folder.joinpath("processes.log").open("w", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        yield


if __name__ == "__main__":
    main()
