"""`mo channel secret`: what requests of a channel may be signed with; and how its signatures are shown."""

from collections.abc import Iterable, Mapping
from typing import Any

import click
from aicc.mo.v1 import channel_directory_pb2 as pb

from shim.cli.connection import run
from shim.cli.output import Columns, note, write_item, write_items
from shim.cli.passwords import read_secret
from shim.cli.texts import enum_text, time_text
from shim.cli.usage import Noun, argument, option

CHECKS = {
    "off": pb.SIGNATURE_CHECK_OFF,
    "observe": pb.SIGNATURE_CHECK_OBSERVE,
    "enforce": pb.SIGNATURE_CHECK_ENFORCE,
}
_KINDS = {
    "auth_token_stdin": pb.SIGNATURE_SECRET_KIND_AUTH_TOKEN,
    "shared_key_stdin": pb.SIGNATURE_SECRET_KIND_SHARED_KEY,
}


@click.group("secret", cls=Noun)
def secret() -> None:
    """Manage what requests of a channel may be signed with: several at once, so that one can be replaced."""


def _add_faults(params: Mapping[str, Any]) -> Iterable[str]:
    if bool(params.get("auth_token_stdin")) is bool(params.get("shared_key_stdin")):
        yield "Give either --auth-token-stdin or --shared-key-stdin."


@secret.verb("add", example="mo channel secret add C17 --auth-token-stdin < auth-token", check=_add_faults)
@argument("channel_config_id", metavar="ID")
@option("--auth-token-stdin", is_flag=True, help="Read the auth token of the Twilio account from standard input.")
@option("--shared-key-stdin", is_flag=True, help="Read a shared key from standard input.")
def add(channel_config_id: str, **kinds: bool) -> None:
    """Add a secret to the channel ID. It is sealed, and can't be asked for again."""
    kind = next(kind for flag, kind in _KINDS.items() if kinds[flag])
    value = read_secret("Auth token" if kinds["auth_token_stdin"] else "Shared key")
    request = pb.AddSignatureSecretRequest(channel_config_id=channel_config_id, kind=kind, secret=value)
    response = run(lambda service: service.directory.AddSignatureSecret(request, timeout=service.timeout))
    added = next(each for each in response.channel.signature_secrets if each.secret_id == response.secret_id)
    write_item(added, {name: text(added) for name, text in _COLUMNS.items()})
    if response.channel.signature_check == pb.SIGNATURE_CHECK_OFF:
        note(
            f"signatures aren't looked at yet; see first who can sign: mo channel update {channel_config_id} "
            "--signature observe"
        )


@secret.verb("list", example="mo channel secret list C17")
@argument("channel_config_id", metavar="ID")
def list_secrets(channel_config_id: str) -> None:
    """List the secrets of the channel ID, oldest first; never what they are."""
    request = pb.GetChannelRequest(channel_config_id=channel_config_id)
    found = run(lambda service: service.directory.GetChannel(request, timeout=service.timeout)).channel
    write_items(found.signature_secrets, _COLUMNS)


@secret.verb("remove", example="mo channel secret remove C17 6f1c0a2b9d8e7f60")
@argument("channel_config_id", metavar="ID")
@argument("secret_id", metavar="SECRET")
def remove(channel_config_id: str, secret_id: str) -> None:
    """Remove a secret from the channel ID: what is signed with it is no longer right."""
    request = pb.RemoveSignatureSecretRequest(channel_config_id=channel_config_id, secret_id=secret_id)
    response = run(lambda service: service.directory.RemoveSignatureSecret(request, timeout=service.timeout))
    note(f'the secret is removed; channel "{channel_config_id}" has {len(response.channel.signature_secrets)} left')


def signature_fields(channel: pb.Channel) -> dict[str, str]:
    """Return what is shown of a channel's signatures: the check, its secrets, and what was found."""
    fields = {"signature": _check_text(channel), "signature secrets": str(len(channel.signature_secrets))}
    is_enforced = channel.signature_check == pb.SIGNATURE_CHECK_ENFORCE
    for count in channel.signature_counts:
        result = enum_text(pb.SignatureResult.Name(count.result), "SIGNATURE_RESULT_")
        fault = f"{'refused' if is_enforced else 'would have been refused'}: {result}"
        name = "signed" if count.result == pb.SIGNATURE_RESULT_VALID else fault
        fields[name] = f"{count.count}, the last {time_text(count.last_time)}"
    return fields


def _check_text(channel: pb.Channel) -> str:
    return enum_text(pb.SignatureCheck.Name(channel.signature_check), "SIGNATURE_CHECK_")


_COLUMNS: Columns[pb.SignatureSecret] = {
    "id": lambda item: item.secret_id,
    "kind": lambda item: enum_text(pb.SignatureSecretKind.Name(item.kind), "SIGNATURE_SECRET_KIND_"),
    "added": lambda item: time_text(item.create_time),
}
