"""A shim that was away while an older back-up was restored: it may not believe what the service no longer has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import apsw

from tests.gateway.gateway import FORM, Gateway
from tests.processes import running_service, running_shim


@contextmanager
def running(folder: Path, listen: str) -> Iterator[Gateway]:
    """A gateway whose shim has taken in all that the service has."""
    with running_service(folder, listen=listen) as service, running_shim(folder, service=service.listen) as shim:
        shim.wait_for_event("directory_received")
        yield Gateway(service, shim)


def back_up(folder: Path) -> Path:
    path = folder / "back-up.db"
    with closing(apsw.Connection(str(folder / "mo.db"), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        connection.execute("VACUUM INTO ?", (str(path),))
    return path


async def test_a_shim_believes_the_restored_directory_and_not_what_it_knew_before(tmp_path: Path) -> None:
    with running_service(tmp_path) as service:
        with running_shim(tmp_path, service=service.listen) as shim:
            gateway = Gateway(service, shim)
            await gateway.create_channel("C1")
            await gateway.create_channel("C2")
            kept, restored = gateway.passwords["C1"], back_up(tmp_path)
            (rotated,) = await gateway.mo("channel", "rotate-password", "C1", "--generate-password", "--grace", "0s")
            gateway.passwords["C1"] = lost = rotated["generated_password"]
            await gateway.post_until("C1", FORM | {"MessageSid": "SM1"}, 204)  # the shim knows it
        service.terminate()
        service.wait()
    shutil.copy(restored, tmp_path / "mo.db")  # the service stopped in order: there is no log beside it
    with running_service(tmp_path, listen=service.listen) as again:
        # As many changes as were lost, and one more: the shim was away for all of them.
        await Gateway(again, shim).mo("channel", "update", "C2", "--pause")
        await Gateway(again, shim).mo("channel", "update", "C2", "--enable")
    with running(tmp_path, service.listen) as gateway:
        answers = []
        for password in (kept, lost):
            gateway.passwords["C1"] = password
            answers.append((await gateway.post("C1", FORM | {"MessageSid": "SM2"})).code)

    assert answers == [204, 401]
