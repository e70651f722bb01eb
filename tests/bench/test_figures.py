"""What the benchmarks say of what they measured."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.parametrize("kind", ["targets", "long"])
def test_every_scenario_says_what_it_measures(kind: str) -> None:
    command = [sys.executable, "-m", "tests.bench", kind, "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    scenarios = told.partition("scenarios:\n")[2].splitlines()
    assert scenarios
    assert all(len(line.split()) > 3 for line in scenarios)
