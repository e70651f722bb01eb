"""`mo channel`: the channels, their credentials, and what to enter at Twilio."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click
from aicc.mo.v1 import channel_directory_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from shim.cli import webhook_url
from shim.cli.channel_secret import CHECKS, secret, signature_fields
from shim.cli.connection import Connection, run
from shim.cli.output import note, write_item, write_items
from shim.cli.passwords import last_uses, password_faults, password_options, read_password, with_generated
from shim.cli.proto_times import to_duration
from shim.cli.texts import enum_text, seconds_text, time_text
from shim.cli.usage import CommandError, Noun, argument, option
from shim.cli.values import as_duration, as_grace

_STATES = {
    "enable": pb.CHANNEL_STATE_ENABLED,
    "disable": pb.CHANNEL_STATE_DISABLED,
    "pause": pb.CHANNEL_STATE_PAUSED,
}
_AFFINITY_HELP = "How long a conversation stays where it was routed, after its last message: up to 30d."


_SIGNATURE_HELP = (
    "What is made of the signatures of requests: nothing, wrong ones are counted, or refused with 403 (secret add)."
)


@click.group("channel", cls=Noun)
def channel() -> None:
    """Channels: who may call in, and where their messages go."""


channel.add_command(secret)


def _create_faults(params: Mapping[str, Any]) -> Iterable[str]:
    yield from password_faults(params)
    yield from _exclusive(params, "pause", "disable")
    yield from _exclusive(params, "destination", "no_destination")
    yield from _affinity_faults(params)


def _affinity_faults(params: Mapping[str, Any]) -> Iterable[str]:
    if (params.get("affinity") or 0) % 1:
        yield "--affinity is in whole seconds."


@channel.verb(
    "create",
    example="mo channel create C17 --user twilio --generate-password --number +14155238886",
    check=_create_faults,
)
@argument("channel_config_id", metavar="ID")
@option("--user", required=True, help="The user that the provider authenticates as.")
@password_options
@option("--number", metavar="+E164", default="", help="The company's number.")
@option("--destination", metavar="NAME", help="Where a message goes that no route matches. [default: default]")
@option("--no-destination", is_flag=True, help="Hold messages that no route matches.")
@option("--provider", default="twilio", show_default=True, help="The service provider.")
@option("--infer-message-type", is_flag=True, help="Let an account in that never sends MessageType.")
@option("--affinity", type=as_duration, metavar="DURATION", help=_AFFINITY_HELP)
@option("--pause", "--paused", is_flag=True, help="Take messages, and hold them.")
@option("--disable", "--disabled", is_flag=True, help="Refuse callers for now.")
def create(channel_config_id: str, user: str, *, password_stdin: bool, **options: Any) -> None:
    """Create the channel ID. Its id is part of the webhook URL and can't change."""
    wanted = pb.Channel(
        channel_config_id=channel_config_id,
        provider=options["provider"],
        number=options["number"],
        webhook_user=user,
        state=_chosen_state(options) or pb.CHANNEL_STATE_ENABLED,
        infer_message_type=options["infer_message_type"],
        affinity=to_duration(options["affinity"] or None),
    )
    if not options["no_destination"]:
        wanted.destination = options["destination"] or "default"
    request = pb.CreateChannelRequest(channel=wanted, password=read_password() if password_stdin else "")
    response = run(lambda service: service.directory.CreateChannel(request, timeout=service.timeout))
    write_item(response, with_generated(_fields(response.channel), response.generated_password))


@channel.verb("list", example="mo channel list --json")
def list_channels() -> None:
    """List the channels in the order of their ids."""
    columns = {
        "id": lambda item: item.channel_config_id,
        "state": _state_text,
        "provider": lambda item: item.provider,
        "number": lambda item: item.number,
        "user": lambda item: item.webhook_user,
        "destination": _destination_text,
    }
    write_items(run(_all_channels), columns)


async def _all_channels(service: Connection) -> list[pb.Channel]:
    channels: list[pb.Channel] = []
    request = pb.ListChannelsRequest(page_size=1_000)
    while True:
        page = await service.directory.ListChannels(request, timeout=service.timeout)
        channels += page.channels
        if not page.next_page_token:
            return channels
        request.page_token = page.next_page_token


@channel.verb("show", example="mo channel show C17")
@argument("channel_config_id", metavar="ID")
def show(channel_config_id: str) -> None:
    """Show one channel."""
    found = _load(channel_config_id)
    write_item(found, _fields(found) | last_uses(found))


def _update_faults(params: Mapping[str, Any]) -> Iterable[str]:
    yield from _exclusive(params, "enable", "disable", "pause")
    yield from _exclusive(params, "number", "no_number")
    yield from _exclusive(params, "destination", "no_destination")
    yield from _exclusive(params, "affinity", "no_affinity")
    yield from _affinity_faults(params)
    is_given = [params.get(name) not in {None, False} for name in _CHANGES]
    if not any(is_given) and all(params.get(name) is None for name in ("infer_message_type", "affinity")):
        yield "Nothing to change: give at least one option, see --help."


_CHANGES = (
    *("enable", "disable", "pause", "number", "no_number", "destination", "no_destination", "user", "no_affinity"),
    "signature",
)


@channel.verb("update", example="mo channel update C17 --pause", check=_update_faults)
@argument("channel_config_id", metavar="ID")
@option("--enable", "--enabled", is_flag=True, help="Take messages and route them.")
@option("--disable", "--disabled", is_flag=True, help="Refuse callers: their messages are lost.")
@option("--pause", "--paused", is_flag=True, help="Take messages, and hold them.")
@option("--number", metavar="+E164", help="The company's number.")
@option("--no-number", is_flag=True, help="Forget the number.")
@option("--destination", metavar="NAME", help="Where a message goes that no route matches.")
@option("--no-destination", is_flag=True, help="Hold messages that no route matches.")
@option("--user", help="The user that the provider authenticates as.")
@option("--infer-message-type/--no-infer-message-type", default=None, help="Let in callers without MessageType.")
@option("--affinity", type=as_duration, metavar="DURATION", help=_AFFINITY_HELP)
@option("--signature", type=click.Choice(list(CHECKS)), help=_SIGNATURE_HELP)
@option("--no-affinity", is_flag=True, help="Route each message by itself.")
@option("--etag", default="", help="Change it only if it still has this etag.")
def update(channel_config_id: str, etag: str, **options: Any) -> None:
    """Change the channel ID; reaches every connected shim within a second."""
    request = _update_request(pb.Channel(channel_config_id=channel_config_id, etag=etag), options)
    response = run(lambda service: service.directory.UpdateChannel(request, timeout=service.timeout))
    write_item(response.channel, _fields(response.channel))
    if request.channel.state == pb.CHANNEL_STATE_DISABLED:
        note(
            f'while channel "{channel_config_id}" is disabled its messages are lost: callers get 403. '
            "--pause takes and holds them instead"
        )


def _update_request(changed: pb.Channel, options: Mapping[str, Any]) -> pb.UpdateChannelRequest:
    """Build the request: a path in the mask for each option given, and no value where one is cleared."""
    mask = FieldMask()
    state = _chosen_state(options)
    if state:
        changed.state = state
        mask.paths.append("state")
    values = {"number": options["number"], "webhook_user": options["user"], "destination": options["destination"]}
    for path, value in values.items():
        if value is not None:
            setattr(changed, path, value)
            mask.paths.append(path)
    mask.paths.extend(path for path in ("number", "destination") if options[f"no_{path}"])
    if options["infer_message_type"] is not None:
        changed.infer_message_type = options["infer_message_type"]
        mask.paths.append("infer_message_type")
    if options["affinity"] is not None or options["no_affinity"]:
        changed.affinity.FromSeconds(int(options["affinity"] or 0))
        mask.paths.append("affinity")
    if options["signature"]:
        changed.signature_check = CHECKS[options["signature"]]
        mask.paths.append("signature_check")
    return pb.UpdateChannelRequest(channel=changed, update_mask=mask)


@channel.verb("delete", example="mo channel delete C17 --yes")
@argument("channel_config_id", metavar="ID")
@option("--yes", is_flag=True, help="Don't ask.")
@option("--etag", default="", help="Delete it only if it still has this etag.")
def delete(channel_config_id: str, etag: str, *, yes: bool) -> None:
    """Delete the channel ID. The id can't be used again; its messages stay."""
    if not yes:
        _confirm_deletion(channel_config_id)
    request = pb.DeleteChannelRequest(channel_config_id=channel_config_id, etag=etag)
    run(lambda service: service.directory.DeleteChannel(request, timeout=service.timeout))
    note(f'channel "{channel_config_id}" is deleted')


def _confirm_deletion(channel_config_id: str) -> None:
    if not sys.stdin.isatty():
        raise CommandError(f'deleting channel "{channel_config_id}" can\'t be undone; confirm it with --yes')
    typed = click.prompt("This can't be undone. Type the channel's id to delete it", err=True)
    if typed != channel_config_id:
        raise CommandError("that is not the channel's id; nothing was deleted")


@channel.verb(
    "rotate-password",
    example="mo channel rotate-password C17 --generate-password --grace 24h",
    check=password_faults,
)
@argument("channel_config_id", metavar="ID")
@password_options
@option("--grace", type=as_grace, metavar="DURATION", help="How long the old one stays valid. [default: 24h]")
def rotate_password(channel_config_id: str, grace: float | None, *, password_stdin: bool, **_: Any) -> None:
    """Replace the webhook password; the old one stays valid for a grace period."""
    request = pb.RotatePasswordRequest(channel_config_id=channel_config_id)
    request.password = read_password() if password_stdin else ""
    if grace is not None:
        request.grace_period.CopyFrom(Duration(seconds=int(grace), nanos=round(grace % 1 * 1_000_000) * 1_000))
    response = run(lambda service: service.directory.RotatePassword(request, timeout=service.timeout))
    write_item(response, with_generated(_fields(response.channel), response.generated_password))


@channel.verb(
    "webhook",
    example="mo channel webhook C17 --public-url https://mo.example.com --fallback-url https://mo2.example.com",
    check=webhook_url.url_faults,
)
@argument("channel_config_id", metavar="ID")
@option("--public-url", required=True, metavar="URL", help="Where Twilio reaches the shims: https://HOST.")
@option("--fallback-url", metavar="URL", help="Where it reaches others of them when that fails.")
def webhook(channel_config_id: str, public_url: str, fallback_url: str | None) -> None:
    """Print what to enter at Twilio for the channel ID."""
    found = _load(channel_config_id)
    entries = webhook_url.entries(found.channel_config_id, found.provider, found.webhook_user, public_url, fallback_url)
    write_item(entries, {name.replace("_", " "): value for name, value in entries.items()})
    for text in webhook_url.remarks(found.webhook_user, public_url, fallback_url):
        note(text)


def _load(channel_config_id: str) -> pb.Channel:
    request = pb.GetChannelRequest(channel_config_id=channel_config_id)
    return run(lambda service: service.directory.GetChannel(request, timeout=service.timeout)).channel


def _exclusive(params: Mapping[str, Any], *names: str) -> Iterable[str]:
    flags = [f"--{name.replace('_', '-')}" for name in names if params.get(name) not in {None, False}]
    if len(flags) > 1:
        yield f"{' and '.join(flags)} exclude each other."


def _chosen_state(options: Mapping[str, Any]) -> pb.ChannelState.ValueType | None:
    return next((state for flag, state in _STATES.items() if options.get(flag)), None)


def _state_text(item: pb.Channel) -> str:
    return enum_text(pb.ChannelState.Name(item.state), "CHANNEL_STATE_")


def _destination_text(item: pb.Channel) -> str:
    return item.destination if item.HasField("destination") else "none (held)"


def _fields(item: pb.Channel) -> dict[str, str]:
    fields = {
        "id": item.channel_config_id,
        "state": _state_text(item),
        "provider": item.provider,
        "number": item.number,
        "user": item.webhook_user,
        "destination": _destination_text(item),
        "infer message type": "yes" if item.infer_message_type else "no",
        "affinity": seconds_text(item.affinity.seconds) if item.HasField("affinity") else "none",
        **signature_fields(item),
        "route revision": str(item.route_revision),
        "etag": item.etag,
        "created": time_text(item.create_time),
        "changed": time_text(item.update_time),
    }
    if item.HasField("previous_password_expire_time"):
        fields["previous password ends"] = time_text(item.previous_password_expire_time)
    return fields
