"""Nothing leaks: what the processes wrote in a whole run, searched for planted secrets, words and numbers."""

from __future__ import annotations

import json
import stat
from base64 import b64encode
from urllib.parse import quote_plus

import pytest

from tests.leak_run import Run, make_run
from tests.planted import NUMBERS, SECRETS, TEXT, WORDS, find_in, holds


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("leaks"))


def test_the_run_had_everything_in_it(run: Run) -> None:
    assert {204, 400, 401, 403, 404, 413, 415} <= set(run.answers)
    assert "journalling" in run.shown["log of the shim"]
    assert "dead_lettered" in run.shown["log of the service"]
    assert "signatures_would_be_refused" in run.shown["log of the shim"]
    assert "look-at-text" in run.shown["audit log"]
    assert "google.rpc" in run.shown["gRPC errors"]
    assert run.shown["private ports"].count("mo_webhook_answers_total") > 2


@pytest.mark.parametrize("planted", SECRETS, ids=str)
def test_no_secret_is_written_anywhere(run: Run, planted: str) -> None:
    assert find_in(run.shown, [planted]) == []
    holding = [path.name for path in run.folder.rglob("*") if path.is_file() and holds(path.read_bytes(), planted)]
    assert holding == []


@pytest.mark.parametrize("planted", WORDS, ids=str)
def test_no_words_are_shown_to_anybody_who_did_not_ask_for_them(run: Run, planted: str) -> None:
    assert find_in(run.shown, [planted]) == []


@pytest.mark.parametrize("planted", NUMBERS, ids=str)
def test_no_whole_number_is_in_logs_metrics_errors_or_the_audit(run: Run, planted: str) -> None:
    assert find_in({where: said for where, said in run.shown.items() if where != "mo"}, [planted]) == []


def test_words_are_in_the_clear_in_the_store_and_in_the_journal_and_nowhere_else(run: Run) -> None:
    folders = {name.rpartition("/")[0] for name in run.files_with_text}
    assert folders == {"service", "host/shim/journal"}
    assert {name for name in run.files_with_text if name.startswith("service/")} <= {
        "service/mo.db",
        "service/mo.db-wal",
    }


def test_what_the_processes_keep_is_for_their_owner_alone(run: Run) -> None:
    assert {name: oct(mode) for name, mode in run.modes.items() if mode & 0o077} == {}
    assert set(run.modes.values()) <= {0o600, 0o700}
    assert stat.S_IMODE(run.key_file.stat().st_mode) == 0o600


def test_no_process_leaves_its_memory_behind(run: Run) -> None:
    assert len(run.core_limits) == 4  # service, supervisor, two workers
    assert set(run.core_limits) == {"Max core file size 0 0 bytes"}


@pytest.mark.parametrize(
    "spelled",
    [
        TEXT,
        quote_plus(TEXT),
        json.dumps(TEXT)[1:-1],
        *(b64encode(f"{before}{TEXT} and more".encode()).decode() for before in ("", "a", "ab", "user:")),
    ],
)
def test_what_is_planted_is_found_in_each_spelling(spelled: str) -> None:
    assert find_in({"somewhere": f"before {spelled} after"}, WORDS) == [f"somewhere: {TEXT!r}"]
