"""The copy of the directory: never lost, never half, as new as the service told."""

import asyncio
import os
import shutil
import stat
from pathlib import Path

import pytest
from aicc.mo.v1.channel_directory_pb2 import CHANNEL_STATE_DISABLED

from shim.replica_slot import forget_others
from tests.shim.caller import PATH, basic
from tests.shim.fake_service import FakeService, make_replica
from tests.shim.running import Events, OpenShim, RunningShim


def path_of(channel_config_id: str) -> str:
    return PATH.removesuffix("C1") + channel_config_id


async def status_of(shim: RunningShim, channel_config_id: str) -> int:
    """Say what a caller of a channel gets; 204 is one who was verified, and whose message is stored or journalled."""
    return (await shim.post(path=path_of(channel_config_id))).status


async def test_without_any_directory_nobody_is_told_that_he_is_wrong(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    await service.stop()
    async with open_shim_with(is_ready=False) as shim:
        assert (await shim.post()).status == 503
        assert (await shim.post(authorization=None)).status == 401
        assert await shim.answered("unready") == 1
        assert await shim.computations() == 0
        status, readiness = await shim.readiness()
        assert (status, readiness["status"], readiness["reasons"][0]["reason"]) == (503, "not ready", "no_directory")
        await service.start()
        await shim.events.wait_for("directory_received")
        assert (await shim.post()).status == 204
        assert (await shim.readiness()) == (200, {"status": "ready", "reasons": []})


async def test_a_shim_that_was_ever_connected_verifies_callers_without_the_service(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    service.add(*(make_replica(f"M{number}") for number in range(3)))
    async with open_shim_with():
        pass
    await service.stop()
    async with open_shim_with(is_ready=False) as shim:
        assert await status_of(shim, "M2") == 204
        assert await shim.answered("journalled") == 1
        assert await status_of(shim, "M3") == 401
        assert (await shim.post(authorization=basic(password="wrong"))).status == 401
        status, readiness = await shim.readiness()
        assert (status, readiness["status"]) == (200, "degraded")
        assert "directory_not_followed" in {reason["reason"] for reason in readiness["reasons"]}


async def test_after_a_restart_it_goes_on_where_it_was(service: FakeService, open_shim_with: OpenShim) -> None:
    async with open_shim_with():
        pass
    service.add(make_replica("C2"))
    async with open_shim_with() as shim:
        assert await status_of(shim, "C2") == 204
    first, second = service.watches
    assert (first.directory_id, first.after_revision) == ("", 0)
    assert (second.directory_id, second.after_revision) == ("directory-1", 1)


async def test_a_change_reaches_the_shim(shim: RunningShim) -> None:
    assert await status_of(shim, "C1") == 204
    await shim.service.put(make_replica("C1", state=CHANNEL_STATE_DISABLED))
    async with asyncio.timeout(30):
        while await status_of(shim, "C1") != 403:
            pass


async def test_a_revoked_password_is_refused_although_it_was_verified(shim: RunningShim) -> None:
    assert await status_of(shim, "C1") == 204
    await shim.service.put(make_replica("C1", passwords=["new"], credential_revision=2))
    async with asyncio.timeout(30):
        while await status_of(shim, "C1") != 401:
            pass


async def test_a_deleted_channel_is_gone(shim: RunningShim) -> None:
    await shim.service.put(make_replica("C1", deleted=True))
    async with asyncio.timeout(30):
        while await status_of(shim, "C1") != 401:
            pass


async def test_what_the_stream_tells_late_does_not_undo_what_was_asked(shim: RunningShim) -> None:
    shim.service.add(make_replica("C1", passwords=["second"], credential_revision=2))
    late = shim.service.replicas["C1"]
    shim.service.add(make_replica("C1", passwords=["third"], credential_revision=3))
    newest = shim.service.replicas["C1"]
    assert (await shim.post(authorization=basic(password="third"))).status == 204
    shim.service.replicas["C1"] = late
    await shim.service.put(make_replica("C9"))
    await shim.events.wait_for("directory_connected")
    async with asyncio.timeout(30):
        while await status_of(shim, "C9") != 204:
            pass
    assert shim.service.replicas["C1"].revision < newest.revision
    assert (await shim.post(authorization=basic(password="third"))).status == 204


async def test_a_restored_directory_replaces_the_copy(service: FakeService, open_shim_with: OpenShim) -> None:
    service.add(make_replica("C2"), make_replica("C3"))
    async with open_shim_with() as shim:
        assert await status_of(shim, "C2") == 204
        await service.stop()
        service.restore("directory-2")
        service.add(make_replica("C3", passwords=["new"]))
        await service.start()
        await shim.events.wait_for("directory_received", 2)
        assert await status_of(shim, "C2") == 401
        assert (await shim.post(path=path_of("C3"), authorization=basic(password="new"))).status == 204
        assert await shim.metric("mo_replica_revision") == 1


async def test_a_directory_that_went_back_in_time_replaces_the_copy(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    service.add(make_replica("C2"), make_replica("C3"))
    async with open_shim_with():
        pass
    service.restore("directory-1")
    service.add(make_replica("C1"))
    async with open_shim_with() as shim:
        assert await status_of(shim, "C1") == 204
        assert await status_of(shim, "C2") == 401


async def test_what_other_workers_left_goes_with_the_changes_that_were_lost(
    service: FakeService, open_shim_with: OpenShim, tmp_path: Path
) -> None:
    service.add(make_replica("C2"))
    async with open_shim_with():
        pass
    own = tmp_path / "shim" / "replica.db"
    left = tmp_path / "shim" / "replicas" / "1" / "replica.db"
    left.parent.mkdir(parents=True)
    shutil.copy(own, left)
    async with open_shim_with():
        assert left.exists(), "nothing was lost"
    service.restore("directory-1")
    service.add(make_replica("C1"))
    async with open_shim_with() as shim:
        await shim.events.wait_for("directory_received", 2)
        assert not left.exists()
        assert own.exists()


def test_a_copy_of_lost_changes_that_cannot_be_deleted_is_said(events: Events, tmp_path: Path) -> None:
    for number in ("1", "2"):
        (tmp_path / "replicas" / number).mkdir(parents=True)
    (tmp_path / "replicas" / "1" / "replica.db").mkdir()
    (tmp_path / "replicas" / "2" / "replica.db").touch()

    forget_others(tmp_path)

    assert events.facts("replica_not_deleted")["file"] == str(tmp_path / "replicas" / "1" / "replica.db")
    assert not (tmp_path / "replicas" / "2" / "replica.db").exists()


async def test_what_is_left_of_half_a_snapshot_is_not_in_the_next_one(
    service: FakeService, open_shim_with: OpenShim
) -> None:
    service.add(*(make_replica(f"N{number}") for number in range(10)))
    service.page_size, service.pages_before_break = 3, 2
    async with open_shim_with() as shim:
        await shim.events.wait_for("directory_lost")
        del service.replicas["N0"]
        service.pages_before_break = None
        await shim.events.wait_for("directory_received")
        assert await status_of(shim, "N9") == 204
        assert await status_of(shim, "N0") == 401


async def test_half_a_snapshot_does_not_lose_the_whole_one(service: FakeService, open_shim_with: OpenShim) -> None:
    service.add(make_replica("C2"))
    async with open_shim_with():
        pass
    service.restore("directory-2")
    service.add(*(make_replica(f"N{number}") for number in range(10)))
    service.page_size, service.pages_before_break = 3, 2
    async with open_shim_with() as shim:
        await shim.events.wait_for("directory_lost", 2)
        assert await status_of(shim, "C2") == 204
        assert await status_of(shim, "C1") == 204
    async with open_shim_with() as shim:
        assert await status_of(shim, "C2") == 204
        service.pages_before_break = None
        await shim.events.wait_for("directory_received", 2)
        assert await status_of(shim, "C2") == 401
        assert await status_of(shim, "N0") == 204


async def test_a_first_snapshot_that_broke_off_begins_again(service: FakeService, open_shim_with: OpenShim) -> None:
    service.add(*(make_replica(f"N{number}") for number in range(10)))
    service.page_size, service.pages_before_break = 3, 2
    async with open_shim_with(is_ready=False) as shim:
        await shim.events.wait_for("directory_lost")
        assert (await shim.post()).status == 503
        service.pages_before_break = None
        await shim.events.wait_for("directory_received")
        assert await status_of(shim, "N9") == 204


async def test_a_stream_that_changes_directory_without_a_reset_is_not_believed(
    shim: RunningShim, service: FakeService
) -> None:
    service.directory_id = "directory-2"
    await service.put(make_replica("C2"))
    await shim.events.wait_for("directory_received", 2)
    assert await status_of(shim, "C1") == 204
    assert await status_of(shim, "C2") == 204


async def test_a_silent_stream_is_reopened(
    service: FakeService, open_shim_with: OpenShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.link.SILENCE_SECONDS", 0.2)
    async with open_shim_with() as shim:
        await shim.events.wait_for("directory_connected", 3)
    assert len(service.watches) >= 3


async def test_more_channels_than_memory_holds_are_served_from_disk(
    service: FakeService, open_shim_with: OpenShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shim.replica._MAX_CHANNELS_IN_MEMORY", 2)
    service.add(*(make_replica(f"M{number}") for number in range(5)))
    async with open_shim_with() as shim:
        for _ in range(2):
            assert [await status_of(shim, f"M{number}") for number in range(5)] == [204] * 5


async def test_a_file_that_cannot_be_read_is_put_aside(
    service: FakeService, open_shim_with: OpenShim, events: Events, tmp_path: Path
) -> None:
    async with open_shim_with():
        pass
    file = tmp_path / "shim" / "replica.db"
    file.write_bytes(b"no database" * 1_000)
    async with open_shim_with() as shim:
        assert await status_of(shim, "C1") == 204
    assert events.count("replica_unreadable") == 1
    assert file.with_suffix(".unreadable").read_bytes().startswith(b"no database")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
async def test_only_its_owner_may_read_it(shim: RunningShim, tmp_path: Path) -> None:
    folder = tmp_path / "shim"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_to_others(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
async def test_what_somebody_left_open_to_others_is_closed(open_shim_with: OpenShim, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "shim", tmp_path / "elsewhere"
    async with open_shim_with():
        pass
    for path in (folder / "notes", folder / "journal" / "0.damaged-1.db", elsewhere):
        path.touch(mode=0o644)
    (folder / "replicas").mkdir()
    open_to_others(folder)
    (folder / "journal" / "link").symlink_to(elsewhere)
    async with open_shim_with():
        modes = {path.name: mode_of(path) for path in [folder, *folder.rglob("*")]}
    assert {name for name, mode in modes.items() if mode & 0o077} == {"notes", "link"}  # nobody knows whose they are
    assert {modes["shim"], modes["journal"], modes["replicas"]} == {0o700}
    assert {modes["replica.db"], modes["0.damaged-1.db"]} == {0o600}
