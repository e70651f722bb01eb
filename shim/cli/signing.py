"""How `mo send` signs what it posts, as Twilio does."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from shim.cli.passwords import read_secret
from shim.cli.twilio_form import Form
from shim.cli.twilio_post import Webhook
from shim.cli.usage import CommandError, option
from shim.public_url import parse_public_url
from shim.signature import Secret, SecretKind, sign

_Function = TypeVar("_Function", bound=Callable[..., Any])

_KEY_ID = "webhooks_sharedkey_00000000000000000000000000"


class Secrets(NamedTuple):
    """What a command reads from standard input: the webhook password, and what requests are signed with."""

    password: str | None
    signing: Secret | None


def signing_options(function: _Function) -> _Function:
    """Add what says how to sign."""
    function = option("--public-url", metavar="URL", help="Sign for this URL, https://HOST, in place of URL's own.")(
        function
    )
    function = option("--shared-key-stdin", is_flag=True, help="Sign with a shared key, read likewise.")(function)
    return option(
        "--auth-token-stdin",
        is_flag=True,
        help="Sign with the auth token on standard input; after the password, in a line of its own.",
    )(function)


def signing_faults(params: Mapping[str, Any]) -> Iterable[str]:
    """Name what doesn't go together."""
    is_signed = params.get("auth_token_stdin") or params.get("shared_key_stdin")
    if params.get("auth_token_stdin") and params.get("shared_key_stdin"):
        yield "--auth-token-stdin and --shared-key-stdin exclude each other."
    if params.get("public_url"):
        if not is_signed:
            yield "--public-url is what is signed for: give --auth-token-stdin or --shared-key-stdin with it."
        try:
            parse_public_url(params["public_url"])
        except ValueError as error:
            yield f"--public-url {error}."


def read_secrets(options: Mapping[str, Any]) -> Secrets:
    """Read what the options name from standard input, a line each. Raises `CommandError`."""
    kind = SecretKind.AUTH_TOKEN if options["auth_token_stdin"] else SecretKind.SHARED_KEY
    is_signed = options["auth_token_stdin"] or options["shared_key_stdin"]
    if not is_signed:
        return Secrets(read_secret("Webhook password") if options["password_stdin"] else None, None)
    if not options["password_stdin"]:
        return Secrets(None, Secret(kind, read_secret("Secret").encode()))
    password, line_break, secret = read_secret("Password and secret").replace("\r\n", "\n").partition("\n")
    if not (password and line_break and secret):
        raise CommandError("standard input must have two lines: the webhook password, and what to sign with")
    return Secrets(password, Secret(kind, secret.encode()))


def make_signer(secret: Secret | None, url: str) -> Callable[[Form], dict[str, str]]:
    """Return what makes the headers of a form's signature for that URL; without a secret, none."""
    return lambda form: sign(secret, url, form, key_id=_KEY_ID) if secret else {}


def url_to_sign(webhook: Webhook, public_url: str | None) -> str:
    """Return the URL that Twilio would sign: the posted one, or the same path below another."""
    return (public_url.rstrip("/") if public_url else webhook.base) + webhook.path
