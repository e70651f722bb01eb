"""Who may import whom: the house rules of the code, read from every import in it."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIM, SERVICE, STORE = "shim/**/*.py", "service/**/*.py", "service/store/**/*.py"
GRPC = ("grpc", "grpc_health", "grpc_reflection", "grpc_status")
GENERATED = ("aicc", "google")
DATABASES = ("apsw", "sqlite3", "asyncpg", "psycopg", "sqlalchemy")
SHIM_KNOWS_GRPC = ("shim/link.py", "shim/service_channel.py", "shim/reports.py", "shim/cli/*.py", "shim/demo.py")
SHIM_KEEPS = ("shim/replica_store.py", "shim/replica_slot.py", "shim/journal/*.py")


@dataclass(frozen=True)
class Rule:
    """What `files` (all but `exempt`) import: none of `never`; and if `only` is given, nothing but that."""

    says: str
    files: tuple[str, ...]
    exempt: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    only: tuple[str, ...] | None = None

    def __str__(self) -> str:
        return self.says

    def allows(self, name: str) -> bool:
        return not _is_within(name, self.never) and (self.only is None or _is_within(name, self.only))


RULES = (
    Rule("the shim never imports the service", (SHIM,), never=("service", "tests")),
    Rule("the service never imports the shim or its HTTP server", (SERVICE,), never=("shim", "tornado", "tests")),
    Rule("the contract's tools import neither", ("protos/*.py",), never=("shim", "service", "tests")),
    Rule(
        "models, errors and routing are pure",
        ("service/models/*.py", "service/errors.py", "service/routing/*.py"),
        only=(*sys.stdlib_module_names, "re2", "service.models", "service.errors", "service.routing"),
    ),
    Rule(
        "of the service, only its rpc package and its root know gRPC and generated code",
        (SERVICE,),
        exempt=("service/rpc/*.py", "service/__main__.py"),
        never=(*GRPC, *GENERATED),
    ),
    Rule(
        "of the shim, only its link to the service, its commands and its root know gRPC",
        (SHIM,),
        exempt=SHIM_KNOWS_GRPC,
        never=GRPC,
    ),
    Rule(
        "of the shim, only these, the translators, the replica, the intake and the drainer know generated code",
        (SHIM,),
        exempt=(
            *SHIM_KNOWS_GRPC,
            *("shim/translation/*.py", "shim/replica.py", "shim/intake.py", "shim/quarantine.py", "shim/worker.py"),
            "shim/journal/*.py",
        ),
        never=GENERATED,
    ),
    Rule(
        "of the service, only the store knows a database",
        (SERVICE,),
        exempt=("service/store/**/*.py",),
        never=DATABASES,
    ),
    Rule(
        "of the shim, only the replica's store and the journal know a database",
        (SHIM,),
        exempt=SHIM_KEEPS,
        never=DATABASES,
    ),
)

SQL = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|WITH|BEGIN)\b\s+\S")
SQL_LIVES_IN = ("service/store/**/*.py", *SHIM_KEEPS)


def find_breaches(rule: Rule, path: str, code: str) -> list[str]:
    """Name every import in `code` that `rule` forbids, as `path:line imports name`."""
    return [f"{path}:{line} imports {name}" for line, name in _find_imports(path, code) if not rule.allows(name)]


def _find_imports(path: str, code: str) -> Iterator[tuple[int, str]]:
    """Yield each import with its line, inside functions and by `import_module` too, as a full dotted name."""
    package = path.split("/")[:-1]
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                above = package[: len(package) - level + 1] if level else []
                origin = ".".join([*above, *([module] if module else [])])
                yield from ((node.lineno, f"{origin}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(str(name)), *_],
            ):
                yield node.lineno, name


def _is_within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def _match(patterns: tuple[str, ...]) -> set[Path]:
    return {path for pattern in patterns for path in ROOT.glob(pattern) if "_pb2" not in path.name}


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    breaches = [
        breach
        for path in sorted(_match(rule.files) - _match(rule.exempt))
        for breach in find_breaches(rule, path.relative_to(ROOT).as_posix(), path.read_text())
    ]
    assert not breaches, "\n".join([str(rule), *breaches])


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_each_pattern_of_a_rule_still_finds_files(rule: Rule) -> None:
    assert [pattern for pattern in (*rule.files, *rule.exempt) if not _match((pattern,))] == []


PLANTED = (
    (0, "shim/webhook.py", "import service.models"),
    (0, "shim/webhook.py", "from service import models"),
    (0, "shim/webhook.py", "def f():\n    from service.models import Channel"),
    (0, "shim/webhook.py", "import importlib\nimportlib.import_module('service.models')"),
    (1, "service/ingest.py", "if TYPE_CHECKING:\n    import tornado.web"),
    (1, "service/rpc/ingest.py", "def f():\n    from shim import webhook"),
    (2, "protos/generate.py", "import service"),
    (3, "service/models/channels.py", "import click"),
    (3, "service/routing.py", "from service import passwords"),
    (3, "service/routing.py", "from . import passwords"),
    (4, "service/ingest.py", "import grpc.aio"),
    (4, "service/store/contract.py", "from aicc.mo.v1 import message_pb2"),
    (4, "service/store/contract.py", "from google.protobuf import timestamp_pb2"),
    (5, "shim/answers.py", "import grpc"),
    (6, "shim/answers.py", "from aicc.mo.v1.message_pb2 import MoMessage"),
    (7, "service/ingest.py", "import apsw"),
    (8, "shim/webhook.py", "from sqlite3 import connect"),
)


@pytest.mark.parametrize(("rule", "path", "code"), PLANTED)
def test_a_planted_breach_is_found(rule: int, path: str, code: str) -> None:
    assert len(find_breaches(RULES[rule], path, code)) == 1


def test_every_rule_has_a_planted_breach() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(range(len(RULES)))


def test_neighbours_with_a_similar_name_are_no_breach() -> None:
    assert (
        find_breaches(RULES[0], "shim/webhook.py", "import services, shim.service_client\nfrom . import service") == []
    )


def _find_sql(code: str) -> list[str]:
    texts = (node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant))
    return [text for text in texts if isinstance(text, str) and SQL.match(text)]


def test_sql_stays_in_the_stores() -> None:
    outside = _match((SHIM, SERVICE)) - _match(SQL_LIVES_IN)
    assert {str(path): found for path in outside if (found := _find_sql(path.read_text()))} == {}


def test_planted_sql_is_found() -> None:
    assert _find_sql('run(f"""\n  SELECT * FROM {table}""")')
    assert _find_sql('"DELETE FROM messages"')


def test_every_third_party_import_is_a_declared_dependency() -> None:
    project = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]
    extras = itertools.chain.from_iterable(project["optional-dependencies"].values())
    declared = {_normalise(re.split(r"[^\w.-]", each)[0]) for each in (*project["dependencies"], *extras)}
    distributions = metadata.packages_distributions()
    undeclared = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _match((SHIM, SERVICE))
        for _, name in _find_imports(path.relative_to(ROOT).as_posix(), path.read_text())
        if (top := name.split(".")[0]) not in sys.stdlib_module_names | {"shim", "service", "aicc"}
        and not declared & {_normalise(distribution) for distribution in distributions.get(top, [])}
    }
    assert undeclared == set()


def _normalise(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
