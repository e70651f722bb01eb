"""How what a route names is compared with what a message holds."""

from __future__ import annotations

import unicodedata

MOST_REMEMBERED = 20_000


def canonical_type(name: str) -> str:
    """Return the name under which a message type is compared: upper case, VEDIO as VIDEO."""
    upper = name.strip().upper()
    return "VIDEO" if upper == "VEDIO" else upper


def without_scheme(address: str) -> str:
    """Return a sender or receiver without `whatsapp:`."""
    return address.removeprefix("whatsapp:")


class _Spacing(dict[int, str]):
    """Sets every character that is no part of a word apart, as `str.translate` asks for it.

    Letters, numbers, marks and `_` are parts of words, in any script; so a keyword is a whole
    word, or a sign like an emoji. Remembers only so many, because customers choose them.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character.isspace():
            spaced = " "
        elif character == "_" or unicodedata.category(character)[0] in "LNM":
            spaced = character
        else:
            spaced = f" {character} "
        if len(self) < MOST_REMEMBERED:
            self[code] = spaced
        return spaced


_SPACING = _Spacing()


def words_of(text: str) -> list[str]:
    """Return the words and signs of a text, folded as Unicode does, so that equal ones are equal strings.

    Three times as fast as a regular expression that finds them.
    """
    folded = text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return folded.translate(_SPACING).split()


def phrase_of(text: str) -> str:
    """Return the words of a text with a space on each side: a phrase occurs in a text when its string does."""
    return f" {' '.join(words_of(text))} "
