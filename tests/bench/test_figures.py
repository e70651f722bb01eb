"""What the benchmarks say of what they measured."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.long.capacity import Cost, choose_cost, plan
from tests.bench.measuring import tree_cpu_seconds
from tests.bench.scenario import Aimed, spread


def test_a_figure_is_the_median_of_its_rounds_with_the_extremes() -> None:
    assert spread([3.0, 1.0, 2.0], 1) == "2.0 (1.0-3.0)"


@pytest.mark.parametrize(
    ("rounds", "is_least", "verdict"),
    [
        pytest.param([0.5, 0.8, 9.0], False, "met", id="at the most that it may be"),
        pytest.param([1.0], False, "missed by 25%", id="above it"),
        pytest.param([0.8], True, "met", id="at the least that it may be"),
        pytest.param([0.4], True, "missed by 50%", id="below it"),
    ],
)
def test_the_median_decides_whether_an_aim_is_met(rounds: list[float], is_least: bool, verdict: str) -> None:
    assert Aimed(1, rounds, 0.8, is_least).verdict == verdict


def test_cpu_time_of_a_process_has_that_of_its_children_in_it() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    run_it = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    parent = f"{run_it}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = tree_cpu_seconds(process.pid)
        process.communicate()
    assert used >= 0.4


def make_cost(*, shim_us: float = 350.0, service_us: float = 700.0, postgres_us: float = 70.0) -> Cost:
    return Cost(
        shim_us, service_us, postgres_us, commits=1.5, wal_bytes=3_000.0, disk_bytes=1_200.0, batch=4.0, taken=1_000.0
    )


def test_a_core_is_planned_to_be_used_to_seventy_percent() -> None:
    cost = make_cost(shim_us=350, service_us=700, postgres_us=70)

    assert plan(1_000, cost)[:3] == (1, 1, 1)
    assert plan(1_001, cost)[:3] == (1, 2, 1)
    assert plan(10_000, cost)[:3] == (5, 10, 1)


def test_what_is_written_grows_with_the_rate_and_what_is_kept_with_the_messages() -> None:
    need = plan(2_000, make_cost())

    assert (need.commits, need.wal_mb, need.disk_gb) == pytest.approx((3_000, 6.0, 1.2))


@pytest.mark.parametrize(
    ("rate", "measured"),
    [
        pytest.param(50, 100, id="below all"),
        pytest.param(100, 100, id="as measured"),
        pytest.param(999, 100, id="in between"),
        pytest.param(50_000, 1_000, id="above all"),
    ],
)
def test_a_rate_is_planned_with_what_was_measured_below_it(rate: int, measured: int) -> None:
    costs = {100: make_cost(shim_us=100), 1_000: make_cost(shim_us=1_000)}

    assert choose_cost(rate, costs).shim_us == measured


@pytest.mark.parametrize("kind", ["targets", "long"])
def test_every_scenario_says_what_it_measures(kind: str) -> None:
    command = [sys.executable, "-m", "tests.bench", kind, "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    scenarios = told.partition("scenarios:\n")[2].splitlines()
    assert scenarios
    assert all(len(line.split()) > 3 for line in scenarios)
