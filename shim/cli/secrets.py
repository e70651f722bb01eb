"""`mo secrets`: the key file under which the secrets of channels are kept, and what is sealed with it."""

from pathlib import Path

import click
from aicc.mo.v1 import channel_directory_pb2 as pb

from shim.cli import key_file
from shim.cli.connection import Connection, run
from shim.cli.output import note, write_item
from shim.cli.progress import progress
from shim.cli.usage import Noun, argument

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("secrets", cls=Noun)
def secrets() -> None:
    """Manage the key file that seals auth tokens and shared keys, in the store and in each shim's replica.

    To replace its key: put a newer one into the file (add-key), give every shim
    and service that file, seal everything anew (rotate), and delete the older
    lines. The processes read the file again by themselves.
    """


@secrets.verb("init", example="mo secrets init /etc/mo/secrets.key", connects=False)
@argument("path", metavar="FILE", type=_FILE)
def init(path: Path) -> None:
    """Make FILE with one new key, readable by its owner alone."""
    key_file.make(path)
    note(
        f"start mo-service and every mo-shim with --secrets-key {path}, and keep a copy in a safe place: "
        "without it what is sealed can't be opened"
    )


@secrets.verb("add-key", example="mo secrets add-key /etc/mo/secrets.key", connects=False)
@argument("path", metavar="FILE", type=_FILE)
def add_key(path: Path) -> None:
    """Put a newer key into FILE, before the others, which go on opening what they sealed."""
    count = key_file.add_key(path)
    note(f"{path} has {count} keys now; give every shim the same file first, then the service, then: mo secrets rotate")


@secrets.verb("rotate", example="mo secrets rotate")
@click.pass_context
def rotate(ctx: click.Context) -> None:
    """Seal every secret anew that isn't sealed with the newest key. A repeat does nothing more.

    Exits with 1 when there are secrets that none of the keys opens.
    """
    total = run(_rotate)
    unreadable = list(total.unreadable_channel_config_ids)
    shown = {
        "secrets": total.secrets,
        "resealed": total.resealed,
        "unreadable_channel_config_ids": unreadable,
    }
    write_item(
        shown,
        {"secrets": str(total.secrets), "sealed anew": str(total.resealed), "unreadable": ", ".join(unreadable)},
    )
    if unreadable:
        note("no key opens secrets of these channels; put their key back into the file, or remove and add the secrets")
    ctx.exit(1 if unreadable else 0)


async def _rotate(service: Connection) -> pb.RotateSecretsResponse:
    total = pb.RotateSecretsResponse()
    request = pb.RotateSecretsRequest()
    with progress("sealing", None) as advance:
        while True:
            part = await service.directory.RotateSecrets(request, timeout=service.timeout)
            total.secrets += part.secrets
            total.resealed += part.resealed
            total.unreadable_channel_config_ids.extend(part.unreadable_channel_config_ids)
            advance(part.secrets)
            if not part.next_page_token:
                return total
            request.page_token = part.next_page_token
