"""What docs/operations.md and the files beside it name is there: flags, variables, metrics, links, units."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.gateway import FORM, running_gateway

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGE = (DOCS / "operations.md").read_text("utf-8")
ALERTS = (DOCS / "alerts.yml").read_text("utf-8")
UNITS = sorted((DOCS / "systemd").iterdir())
MODULES = {"mo-service": "service", "mo-shim": "shim", "mo": "shim.cli"}

Samples = Sequence[tuple[str, Mapping[str, str]]]


@cache
def read_help(*command: str) -> str:
    """Return what a command says of itself."""
    program, *words = command
    arguments = [sys.executable, "-m", MODULES[program], *words, "--help"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def find_flags(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def code_of(page: str) -> list[str]:
    """Return the lines of all code of a page: of blocks with what goes on in the next line, and of spans."""
    blocks = re.findall(r"```[a-z]*\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [*lines, *re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))]


def find_commands(page: str) -> Iterator[tuple[str, Sequence[str], str]]:
    """Yield each command of ours: its program, the words that say what it is to do, and the rest of it."""
    for line in code_of(page):
        for program, words, rest in re.findall(
            r"(?:^|/bin/|&& |-- (?:env \S+ )?)(mo-service|mo-shim|mo)(?![\w.-])((?: [a-z][a-z-]+)*)([^|;&]*)", line
        ):
            yield program, words.split()[:2], rest


COMMANDS = [
    pytest.param(program, words, find_flags(rest), id=" ".join([program, *words, *sorted(find_flags(rest))]))
    for program, words, rest in find_commands(PAGE)
    if words or find_flags(rest)
]


@pytest.mark.parametrize(("program", "words", "flags"), COMMANDS)
def test_every_command_of_the_page_exists_with_its_flags(program: str, words: Sequence[str], flags: set[str]) -> None:
    told = read_help(program, *words)

    assert flags <= find_flags(told)
    assert not words or words[-1] in told.partition("\n")[0]


def test_every_flag_that_the_page_names_by_itself_exists() -> None:
    alone = {flag for span in code_of(PAGE) if span.startswith("--") for flag in find_flags(span)}

    assert len(alone) > 5
    assert alone <= find_flags(read_help("mo-service") + read_help("mo-shim"))


@pytest.mark.parametrize("path", [DOCS / "operations.md", DOCS / "alerts.yml", *UNITS], ids=lambda path: path.name)
def test_every_variable_is_that_of_a_flag(path: Path) -> None:
    named = re.findall(r"\bMO_(SERVICE|SHIM)_([A-Z][A-Z0-9_]*)", path.read_text("utf-8"))

    for program, name in named:
        assert f"--{name.lower().replace('_', '-')}" in find_flags(read_help(f"mo-{program.lower()}"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """What both processes count, once one message went through."""
    with running_gateway(tmp_path_factory.mktemp("gateway")) as gateway:
        asyncio.run(gateway.create_channel("C1"))
        asyncio.run(gateway.post("C1", FORM | {"MessageSid": "SM1"}))
        found: list[tuple[str, Mapping[str, str]]] = []
        for process in (gateway.shim, gateway.service):
            with urlopen(f"http://{process.admin_listen}/metrics") as response:
                families = text_string_to_metric_families(response.read().decode())
            found += [(sample.name, sample.labels) for family in families for sample in family.samples]
    return found


def test_every_metric_that_is_named_is_counted(samples: Samples) -> None:
    counted = {name for name, _ in samples}
    # A histogram is named as a whole, too.
    known = counted | {name.removesuffix("_bucket") for name in counted}
    of_page = {name for span in code_of(PAGE) for name in re.findall(r"\bmo_[a-z_]+", span)}

    assert len(of_page) > 10
    assert of_page <= known
    assert set(re.findall(r"\bmo_[a-z_]+", ALERTS)) <= counted


def test_every_label_that_an_alert_asks_for_is_there(samples: Samples) -> None:
    asked = re.findall(r'(mo_[a-z_]+)\{([a-z]+)=~?"([^"]+)"\}', ALERTS)
    dynamic = {"code"}  # what isn't counted yet has no sample

    assert asked
    for name, label, values in asked:
        counted = {labels.get(label) for sample, labels in samples if sample == name}
        assert counted - {None}, name
        assert label in dynamic or set(values.split("|")) <= counted, name


def test_every_alert_says_what_to_do_and_how_soon() -> None:
    rules = ALERTS.split("- alert: ")[1:]

    assert all("summary:" in rule and re.search(r"severity: (page|ticket)\b", rule) for rule in rules)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    for path in UNITS:
        ours = path.read_text("utf-8").replace("/opt/mo/bin/", f"{Path(sys.executable).parent}/")
        tmp_path.joinpath(path.name).write_text(ours, "utf-8")
    command = ["systemd-analyze", "verify", *[str(tmp_path / path.name) for path in UNITS]]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [path.name for path in UNITS])
def test_every_unit_is_on_the_page(name: str) -> None:
    assert f"[{name}](systemd/{name})" in PAGE


def test_both_processes_are_confined_in_the_same_way() -> None:
    sandboxes = [path.read_text("utf-8").partition("nothing else.\n")[2] for path in UNITS if path.suffix == ".service"]

    assert len(sandboxes) == 2
    assert len(set(sandboxes)) == 1


def test_every_link_of_the_page_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGE)

    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = DOCS / path if path else DOCS / "operations.md"
        assert target.is_file(), link
        assert not anchor or anchor in anchors_of(target.read_text("utf-8")), link


def test_every_test_that_the_page_names_is_there() -> None:
    for name in re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py|tests/\w+)`", PAGE):
        assert list(ROOT.glob(name)) or list(ROOT.glob(f"tests/*/{name}")), name


def anchors_of(page: str) -> set[str]:
    """Return what GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
