"""Installed once, and run by a user who may write nothing but the data: no root, no home, no code that changes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.packaging.conftest import copy_project
from tests.processes import Process

PASSWORD = "Correct-horse-battery.1"
NOBODY = 65534
# As systemd does it: nothing of our own environment.
NOTHING = ("env", "-i", "PATH=/usr/bin:/bin", "LANG=C.UTF-8")
ANOTHER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
"""Root who may not more than an owner may, for where another user can't even reach our Python."""


def find_user() -> tuple[str, ...]:
    """Return what a command is to begin with for it to run without privileges."""
    if os.geteuid() != 0:
        return ()
    for user in (ANOTHER, POWERLESS) if shutil.which("setpriv") else ():
        reads = [*user, *NOTHING, sys.executable, "-c", "import apsw, grpc, tornado"]
        if subprocess.run(reads, capture_output=True, check=False).returncode == 0:
            return user
    pytest.skip("root can't become anybody else here: it needs setpriv, of util-linux")


@dataclass(frozen=True)
class Installation:
    """A folder with the code, one for the data, and who runs it."""

    code: Path
    data: Path
    user: Sequence[str] = field(default_factory=find_user)

    def command(self, name: str) -> list[str]:
        return [*self.user, *NOTHING, str(self.code / "bin" / name)]

    def start(self, name: str, **flags: str) -> Process:
        process = Process(name, {"listen": "127.0.0.1:0", "admin_listen": "127.0.0.1:0", **flags}, cwd=self.data)
        process.command[:3] = self.command(name)
        return process

    def run(self, name: str, *arguments: str, text: str = "") -> str:
        command = [*self.command(name), *arguments]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False, cwd=self.data)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def list_code(self) -> Mapping[str, int]:
        return {str(path): path.lstat().st_mtime_ns for path in self.code.rglob("*")}


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    # Not below tmp_path, which other users can't reach.
    with tempfile.TemporaryDirectory(prefix="mo-installed-") as made:
        base = Path(made)
        base.chmod(0o755)
        found = Installation(base / "code", base / "data")
        install(copy_project(tmp_path), found.code)
        found.data.mkdir(0o700)
        if found.user == ANOTHER:
            os.chown(found.data, NOBODY, NOBODY)
        yield found
        set_modes(found.code, directory=0o755, file=0o644)


def install(project: Path, code: Path) -> None:
    """Do what `pip install .` does, in an environment of its own that borrows the libraries of this one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", code], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(code), "platbase": str(code)}))
    packages.joinpath("borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    pip = [
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "--no-cache-dir",
        "--python",
        str(code / "bin/python"),
    ]
    offline = ["install", "--no-index", "--no-build-isolation", "--no-deps", "--ignore-installed", str(project)]
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # the generator's plugin is one
    environment = os.environ | {"PATH": tools, "PYTHONPYCACHEPREFIX": ""}
    subprocess.run([sys.executable, *pip, *offline], check=True, env=environment)
    set_modes(code, directory=0o555, file=0o444)


def set_modes(folder: Path, *, directory: int, file: int) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(directory if path.is_dir() else file | (path.stat().st_mode & 0o111))


def post(listen: str, form: Mapping[str, str]) -> int:
    request = urllib.request.Request(
        f"http://{listen}/social/on/whatsapp/twilio/message/C1",
        urlencode(form).encode(),
        {"Authorization": "Basic " + b64encode(f"user:{PASSWORD}".encode()).decode()},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return int(response.status)


@pytest.mark.timeout(300)  # it installs the project, and starts it
def test_an_unprivileged_user_runs_code_that_nobody_may_write(installation: Installation) -> None:
    before = installation.list_code()
    touch = "import pathlib, sys; pathlib.Path(sys.prefix, 'x').touch()"
    refused = subprocess.run([*installation.command("python"), "-c", touch], capture_output=True, check=False)
    assert b"PermissionError" in refused.stderr

    with installation.start("mo-service", store="sqlite:///mo.db") as service:
        mo = ("--service", service.listen)
        create = ("channel", "create", "C1", "--user", "user", "--password-stdin")
        installation.run("mo", *mo, *create, text=PASSWORD + "\n")
        with installation.start("mo-shim", service=service.listen, state_dir="shim") as shim:
            shim.wait_for_event("directory_received")
            form = {
                "From": "whatsapp:+1",
                "To": "whatsapp:+2",
                "MessageSid": "SM1",
                "MessageType": "text",
                "Body": "hi",
            }
            assert post(shim.listen, form) == 204
        pulled = installation.run("mo", *mo, "feed", "pull", "default", "--max", "1", "--wait", "60", "--ack", "--json")

    assert '"SM1"' in pulled
    assert installation.list_code() == before
    assert {path.name for path in installation.data.iterdir()} == {"mo.db", "mo.db.lock", "shim"}
