"""Nothing that had its 2xx is lost, stored twice or put out of order. The long form: make test-full."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.faults.accounting import Plan, Round
from tests.faults.chaos import LINK, POSTGRES, PROCESSES, STANDBY
from tests.faults.cluster import open_cluster
from tests.faults.gateway import Gateway, open_gateway
from tests.faults.senders import Traffic
from tests.faults.table import describe


@pytest.mark.timeout(150)
async def test_five_thousand_messages_survive_every_fault(tmp_path: Path) -> None:
    async with open_gateway(tmp_path, workers=2) as gateway:
        done = await _run(Plan(_choose_seed(tmp_path)), gateway)

    assert done.ledger.accepted_count >= 5_000


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_messages_survive_every_fault_of_postgres_with_two_services_and_two_shims(tmp_path: Path) -> None:
    traffic = Traffic(conversations=60, messages_each=15)
    faults = (*LINK, *PROCESSES, *POSTGRES, *STANDBY)
    plan = Plan(_choose_seed(tmp_path), traffic=traffic, faults=faults, settle_seconds=120)

    async with open_cluster(has_standby=True) as cluster, open_gateway(tmp_path, workers=1, cluster=cluster) as gateway:
        await _run(plan, gateway)


def _choose_seed(folder: Path) -> str:
    seed = os.environ.get("FAULT_SEED") or secrets.token_hex(4)
    print(f"repeat with FAULT_SEED={seed}; data in {folder}")
    return seed


async def _run(plan: Plan, gateway: Gateway) -> Round:
    """Run a round, and check that nothing was wrong and everything was tried."""
    done = Round(plan)
    await done.run(gateway)
    print(describe([done], gateway.title))
    assert done.verdict
    assert done.verdict.is_clean, str(done.verdict)
    assert done.unexpected_statuses == {}
    assert done.answers.needless == 0  # nothing was refused while the journal's disk had room
    assert done.recovered > 0  # the journal had its part
    assert set(done.faults) == set(plan.faults)
    return done
