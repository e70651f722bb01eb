"""Nothing that had its 2xx is lost, stored twice or put out of order. The long form: make test-full."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from tests.faults.accounting import Plan, Round
from tests.faults.gateway import open_gateway
from tests.faults.table import describe


@pytest.mark.timeout(150)
async def test_five_thousand_messages_survive_every_fault(tmp_path: Path) -> None:
    seed = os.environ.get("FAULT_SEED") or secrets.token_hex(4)
    print(f"repeat with FAULT_SEED={seed}; data in {tmp_path}")
    done = Round(Plan(seed))

    async with open_gateway(tmp_path, workers=2) as gateway:
        await done.run(gateway)

    print(describe([done]))
    assert done.verdict
    assert done.verdict.is_clean, str(done.verdict)
    assert done.unexpected_statuses == {}
    assert done.answers.needless == 0  # nothing was refused while the journal's disk had room
    assert done.recovered > 0  # the journal had its part
    assert done.ledger.accepted_count >= 5_000
    assert set(done.faults) == set(done.plan.faults)
