"""`mo send`: plays Twilio against a webhook URL."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from secrets import token_hex
from typing import Any

import click

from shim.cli.output import json_line, note, write_line
from shim.cli.progress import progress
from shim.cli.signing import make_signer, read_secrets, signing_faults, signing_options, url_to_sign
from shim.cli.texts import printable
from shim.cli.twilio_form import PROFILE_NAME, RECEIVER, SENDER, Draft, Form, build_form, new_sid, whatsapp_address
from shim.cli.twilio_post import Answer, TwilioCaller, Webhook, problem, remark
from shim.cli.usage import argument, command, option, settings
from shim.cli.values import as_timeout


def _faults(params: Mapping[str, Any]) -> Iterable[str]:
    if bool(params.get("user")) is not bool(params.get("password_stdin")):
        yield "--user and --password-stdin go together."
    yield from signing_faults(params)
    if params.get("sid") and (params.get("count") or 1) > 1 and not params.get("repeat_sid"):
        yield "--sid with --count needs --repeat-sid: else each message has an id of its own."
    if params.get("url"):
        try:
            Webhook.from_url(params["url"])
        except ValueError as error:
            yield f"{error}."


def _as_parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.BadParameter("write it like NAME=VALUE.")
    return name, value


@command(
    "send",
    example="mo send http://127.0.0.1:8080/social/on/whatsapp/twilio/message/demo \\\n"
    '  --user demo --password-stdin --body "where is my order" < var/demo-password',
    check=_faults,
    connects=False,
)
@argument("url", metavar="URL")
@option("--user", help="The webhook user, unless it is in the URL.")
@option("--password-stdin", is_flag=True, help="Read the webhook password from standard input.")
@signing_options
@option("--type", "message_type", default="text", show_default=True, help="MessageType: text, image, location, …")
@option("--from", "sender", default=SENDER, show_default=True, help="Who writes.")
@option("--to", "receiver", default=RECEIVER, show_default=True, help="Whom they write to.")
@option("--sid", help="MessageSid. [default: a new one for each message]")
@option("--body", help="The text, the caption, or a document's file name.")
@option("--profile-name", default=PROFILE_NAME, show_default=True, help="The nickname.")
@option("--media-url", "media_urls", multiple=True, help="Where the media is; may be repeated.")
@option("--media-content-type", help="Its type. [default: what is usual for --type]")
@option("--latitude", help="Degrees north.")
@option("--longitude", help="Degrees east.")
@option("--address", help="The address of a place.")
@option("--label", help="The name of a place.")
@option("--button-text", help="What stood on the tapped button.")
@option("--button-payload", help="What the company attached to it.")
@option("--reply-to", metavar="SID", help="The message that this one replies to.")
@option("--param", "parameters", type=_as_parameter, multiple=True, metavar="NAME=VALUE", help="Set any parameter.")
@option("--without", multiple=True, metavar="NAME", help="Leave a parameter out.")
@option("--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many messages.")
@option("--repeat-sid", is_flag=True, help="Give all of them the same MessageSid, as a repeated webhook has.")
@option("--no-challenge", is_flag=True, help="Send the credentials at once, which Twilio doesn't.")
@option("--timeout", type=as_timeout, default="15", show_default=True, help="Seconds each request may take.")
@click.pass_context
def send(ctx: click.Context, /, url: str, **options: Any) -> None:
    """Post messages to URL as Twilio does, and print the status of each request.

    The first request has no credentials; it is repeated with them after the
    401. Exits with 1 unless every message was answered with 2xx.
    """
    secrets = read_secrets(options)
    webhook = Webhook.from_url(url, options["user"], secrets.password)
    count = options["count"]
    caller = TwilioCaller(
        webhook,
        timeout_seconds=options["timeout"],
        is_challenged=not options["no_challenge"],
        sign=make_signer(secrets.signing, url_to_sign(webhook, options["public_url"])),
    )
    started = time.monotonic()
    try:
        # On a terminal the results scroll by as it is.
        with progress("sending", count, is_wanted=count > 1 and not sys.stdout.isatty()) as advance:
            accepted = sum(_send_one(caller, webhook, form, advance) for form in _forms(options))
    finally:
        caller.close()
    if count > 1:
        note(f"{accepted} of {count} accepted in {time.monotonic() - started:.1f} s")
    ctx.exit(0 if accepted == count else 1)


def _forms(options: Mapping[str, Any]) -> Iterator[tuple[str, Form]]:
    """Return each message's MessageSid with its form."""
    drafted = {name: value for name, value in options.items() if name in Draft.__dataclass_fields__}
    addresses = {name: whatsapp_address(options[name]) for name in ("sender", "receiver")}
    draft = Draft(**drafted | addresses)
    sid = options["sid"] or new_sid(draft.message_type, token_hex(16))
    for number in range(options["count"]):
        if number and not options["repeat_sid"]:
            sid = new_sid(draft.message_type, token_hex(16))
        yield sid, build_form(draft, sid)


def _send_one(
    caller: TwilioCaller, webhook: Webhook, message: tuple[str, Form], advance: Callable[[int], None]
) -> bool:
    """Post one message and print what became of it; returns whether it was accepted."""
    sid, form = message
    answers = caller.post(form)
    write_line(_result(sid, answers))
    advance(1)
    fault = problem(answers, has_credentials=webhook.credentials is not None)
    if fault:
        note(fault)
        return False
    odd = remark(answers, is_challenged=caller.is_challenged)
    if odd:
        note(odd)
    return True


def _result(sid: str, answers: list[Answer]) -> str:
    if settings().json:
        requests = [{"status": answer.status, "seconds": round(answer.seconds, 6)} for answer in answers]
        return json_line({"message_sid": sid, "accepted": answers[-1].is_success, "requests": requests})
    statuses = " ".join(str(answer.status) for answer in answers)
    return f"{printable(sid)}  {statuses}  {sum(answer.seconds for answer in answers) * 1_000:.1f} ms"
