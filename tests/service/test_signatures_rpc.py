"""Signatures over a real connection: secrets added, removed, sealed anew; what shims found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from aicc.mo.v1 import channel_directory_pb2 as pb
from aicc.mo.v1 import message_archive_pb2 as archive_pb
from cryptography.fernet import Fernet
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from service.signatures import MOST_SECRETS
from tests.service.stubs import Client, serving, violations_of

TOKEN = "0123456789abcdef0123456789abcdef"
AUTH_TOKEN, SHARED_KEY = pb.SIGNATURE_SECRET_KIND_AUTH_TOKEN, pb.SIGNATURE_SECRET_KIND_SHARED_KEY


@pytest.fixture
def key_path(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.key"
    path.touch(mode=0o600)
    path.write_bytes(Fernet.generate_key())
    return path


@pytest.fixture
async def client(tmp_path: Path, key_path: Path) -> AsyncIterator[Client]:
    async with serving(tmp_path, secrets_key=key_path) as connected:
        await connected.create_channel()
        yield connected


def put_newest(path: Path, *, keep_older: bool = True) -> Fernet:
    """Put a new key into the file, and return it."""
    newest = Fernet.generate_key()
    path.write_bytes(newest + (b"\n" + path.read_bytes() if keep_older else b""))
    return Fernet(newest)


def read_key(path: Path) -> Fernet:
    return Fernet(path.read_bytes())


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if text.encode() in path.read_bytes()]


async def add(
    client: Client,
    secret: str = TOKEN,
    kind: pb.SignatureSecretKind.ValueType = AUTH_TOKEN,
    channel_config_id: str = "C1",
) -> pb.AddSignatureSecretResponse:
    return await client.directory.AddSignatureSecret(
        pb.AddSignatureSecretRequest(channel_config_id=channel_config_id, kind=kind, secret=secret)
    )


async def remove(client: Client, secret_id: str) -> pb.Channel:
    request = pb.RemoveSignatureSecretRequest(channel_config_id="C1", secret_id=secret_id)
    return (await client.directory.RemoveSignatureSecret(request)).channel


async def check(client: Client, wanted: pb.SignatureCheck.ValueType) -> pb.Channel:
    request = pb.UpdateChannelRequest(
        channel=pb.Channel(channel_config_id="C1", signature_check=wanted),
        update_mask=FieldMask(paths=["signature_check"]),
    )
    return (await client.directory.UpdateChannel(request)).channel


async def load(client: Client, channel_config_id: str = "C1") -> pb.Channel:
    return (await client.directory.GetChannel(pb.GetChannelRequest(channel_config_id=channel_config_id))).channel


async def replica_of(client: Client, channel_config_id: str = "C1") -> pb.ChannelReplica:
    request = pb.GetChannelReplicaRequest(channel_config_id=channel_config_id)
    return (await client.directory.GetChannelReplica(request)).channel


async def rotate(client: Client) -> list[pb.RotateSecretsResponse]:
    parts = [await client.directory.RotateSecrets(pb.RotateSecretsRequest())]
    while token := parts[-1].next_page_token:
        parts.append(await client.directory.RotateSecrets(pb.RotateSecretsRequest(page_token=token)))
    return parts


async def audited(client: Client) -> list[tuple[str, dict[str, str]]]:
    response = await client.archive.ListAuditEntries(archive_pb.ListAuditEntriesRequest(page_size=100))
    return [
        (entry.action, dict(entry.details)) for entry in response.entries if entry.action.startswith("signature-secret")
    ]


async def test_a_channel_looks_at_no_signature_at_first(client: Client) -> None:
    assert (await load(client)).signature_check == pb.SIGNATURE_CHECK_OFF
    assert (await replica_of(client)).signature_check == pb.SIGNATURE_CHECK_OFF


async def test_an_added_secret_reaches_shims_sealed_and_nobody_in_the_clear(
    client: Client, key_path: Path, tmp_path: Path
) -> None:
    added = await add(client)
    await check(client, pb.SIGNATURE_CHECK_OBSERVE)

    channel, replica = await load(client), await replica_of(client)
    (secret,) = channel.signature_secrets
    (sealed,) = replica.signature_secrets
    assert (secret.secret_id, secret.kind) == (added.secret_id, AUTH_TOKEN)
    assert (replica.signature_check, sealed.kind) == (pb.SIGNATURE_CHECK_OBSERVE, AUTH_TOKEN)
    assert read_key(key_path).decrypt(sealed.sealed) == TOKEN.encode()
    seen = [added, channel, replica]
    assert TOKEN.encode() not in b"".join(each.SerializeToString() for each in seen)
    assert not files_with(TOKEN, tmp_path)


async def test_several_secrets_stand_at_once_and_each_goes_by_its_id(client: Client) -> None:
    old = (await add(client)).secret_id
    new = (await add(client, TOKEN[::-1])).secret_id
    shared = (await add(client, TOKEN, SHARED_KEY)).secret_id

    left = await remove(client, old)

    assert [secret.secret_id for secret in left.signature_secrets] == [new, shared]
    with pytest.raises(grpc.aio.AioRpcError) as repeated:
        await remove(client, old)
    assert repeated.value.code() is grpc.StatusCode.NOT_FOUND
    assert "mo channel secret list C1" in str(repeated.value.details())


async def test_what_was_done_is_in_the_audit_without_the_secret(client: Client) -> None:
    secret_id = (await add(client)).secret_id
    await remove(client, secret_id)

    details = {"channel": "C1", "secret_id": secret_id, "kind": "auth_token"}
    assert await audited(client) == [("signature-secret-remove", details), ("signature-secret-add", details)]


@pytest.mark.parametrize(
    ("secret", "kind", "field"),
    [
        ("too-short", AUTH_TOKEN, "secret"),
        ("x" * 257, AUTH_TOKEN, "secret"),
        ("with a space in it", AUTH_TOKEN, "secret"),
        ("a-secret-with-ünïcode", AUTH_TOKEN, "secret"),
        (f"AC{TOKEN}", AUTH_TOKEN, "secret"),
        (TOKEN, pb.SIGNATURE_SECRET_KIND_UNSPECIFIED, "kind"),
    ],
)
async def test_a_secret_that_is_none_is_refused_and_not_repeated(
    client: Client, secret: str, kind: pb.SignatureSecretKind.ValueType, field: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await add(client, secret, kind)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations_of(refused.value)) == [field]
    assert secret not in str(refused.value)


async def test_a_secret_is_added_once_and_to_a_channel_that_exists(client: Client) -> None:
    await add(client)
    for channel, expected in (("C1", grpc.StatusCode.ALREADY_EXISTS), ("C2", grpc.StatusCode.NOT_FOUND)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await add(client, channel_config_id=channel)
        assert refused.value.code() is expected
        assert TOKEN not in str(refused.value)


async def test_a_channel_has_a_bounded_number_of_secrets(client: Client) -> None:
    for number in range(MOST_SECRETS):
        await add(client, f"{number}{TOKEN}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await add(client)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_signatures_are_enforced_only_while_there_is_a_secret(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(client, pb.SIGNATURE_CHECK_ENFORCE)
    assert "mo channel secret add" in violations_of(refused.value)["signature_check"]
    secret_id = (await add(client)).secret_id
    assert (await check(client, pb.SIGNATURE_CHECK_ENFORCE)).signature_check == pb.SIGNATURE_CHECK_ENFORCE
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await remove(client, secret_id)
    assert "signature_check" in violations_of(refused.value)
    await check(client, pb.SIGNATURE_CHECK_OBSERVE)
    await remove(client, secret_id)


async def test_an_update_must_name_a_check(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await check(client, pb.SIGNATURE_CHECK_UNSPECIFIED)
    assert "signature_check" in violations_of(refused.value)


async def test_a_service_without_a_key_says_how_to_make_one(tmp_path: Path) -> None:
    folder = tmp_path / "keyless"
    async with serving(folder) as client:
        await client.create_channel()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await add(client)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "mo secrets init" in str(refused.value.details())


async def test_a_rotation_seals_everything_with_the_newest_key_and_a_repeat_does_nothing(
    client: Client, key_path: Path
) -> None:
    await add(client)
    await add(client, TOKEN[::-1])
    before = (await replica_of(client)).revision
    newest = put_newest(key_path)

    (done,), (repeated,) = await rotate(client), await rotate(client)

    assert (done.secrets, done.resealed, repeated.secrets, repeated.resealed) == (2, 2, 2, 0)
    replica = await replica_of(client)
    assert [newest.decrypt(each.sealed) for each in replica.signature_secrets] == [
        TOKEN.encode(),
        TOKEN[::-1].encode(),
    ]
    assert replica.revision > before
    assert (await audited(client))[0] == ("signature-secrets-reseal", {"channel": "C1", "secrets": "2"})


async def test_a_rotation_leaves_what_it_cannot_open_and_names_the_channel(client: Client, key_path: Path) -> None:
    await add(client)
    sealed = (await replica_of(client)).signature_secrets[0].sealed
    put_newest(key_path, keep_older=False)

    (done,) = await rotate(client)

    assert (done.resealed, list(done.unreadable_channel_config_ids)) == (0, ["C1"])
    assert (await replica_of(client)).signature_secrets[0].sealed == sealed


async def test_a_rotation_goes_on_from_page_to_page(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.signatures.CHANNELS_AT_ONCE", 2)
    for number in range(2, 6):
        await client.create_channel(f"C{number}")
    for channel in ("C1", "C3", "C5"):
        await add(client, channel_config_id=channel)

    assert [part.secrets for part in await rotate(client)] == [1, 1, 1]


def found(result: pb.SignatureResult.ValueType, count: int, seconds: int) -> pb.SignatureCount:
    return pb.SignatureCount(result=result, count=count, last_time=Timestamp(seconds=seconds))


async def report(client: Client, *counts: pb.SignatureCount, channel: str = "C1") -> None:
    channels = [pb.ChannelSignatureCounts(channel_config_id=channel, counts=counts)]
    await client.directory.ReportSignatures(pb.ReportSignaturesRequest(channels=channels))


async def test_what_shims_found_is_shown_with_the_channel_latest_first(client: Client) -> None:
    await check(client, pb.SIGNATURE_CHECK_OBSERVE)
    await report(client, found(pb.SIGNATURE_RESULT_VALID, 5, 1_700_000_000))
    await report(
        client, found(pb.SIGNATURE_RESULT_VALID, 2, 1_600_000_000), found(pb.SIGNATURE_RESULT_MISSING, 1, 1_800_000_000)
    )

    assert list((await load(client)).signature_counts) == [
        found(pb.SIGNATURE_RESULT_MISSING, 1, 1_800_000_000),
        found(pb.SIGNATURE_RESULT_VALID, 7, 1_700_000_000),
    ]


async def test_a_report_that_is_none_is_refused_with_every_fault(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await report(client, found(pb.SIGNATURE_RESULT_UNSPECIFIED, 1, 0), found(pb.SIGNATURE_RESULT_VALID, 0, 0))
    assert set(violations_of(refused.value)) == {"channels[0].counts[0].result", "channels[0].counts[1].count"}
