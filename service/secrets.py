"""Seals what has to be kept but must not be read where it lies: the secrets that webhooks are signed with.

MultiFernet's way (AES-128-CBC and HMAC-SHA256): the first key of a file seals, all of them open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import CannotSeal

if TYPE_CHECKING:  # only who seals pays for the import
    from cryptography.fernet import Fernet

LARGEST_FILE = 65_536
HOW_TO_MAKE = "make one with: mo secrets init FILE"


class Keys:
    """Keys that seal and open, newest first."""

    def __init__(self, newest: Fernet, *older: Fernet) -> None:
        self._newest = newest
        self._older = older

    def seal(self, secret: bytes) -> bytes:
        """Return the secret, sealed with the newest key: 100 bytes and more, safe to keep as text."""
        return self._newest.encrypt(secret)

    def open(self, sealed: bytes) -> bytes | None:
        """Return what was sealed; None when none of the keys opens it."""
        return next(
            (secret for key in (self._newest, *self._older) if (secret := _open(key, sealed)) is not None), None
        )

    def reseal(self, sealed: bytes) -> bytes | None:
        """Return the same secret sealed with the newest key: `sealed` itself when it is already; None as in `open`."""
        if _open(self._newest, sealed) is not None:
            return sealed
        secret = self.open(sealed)
        return None if secret is None else self._newest.encrypt(secret)


class KeyFile:
    """Where the keys are: one a line, newest first. None: nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def check(self) -> None:
        """Raise `CannotSeal` when there is a file and it can't be used."""
        if self._path is not None:
            self.load()

    def load(self) -> Keys:
        """Read the keys, anew each time: they are replaced while everything runs. Raises `CannotSeal`."""
        from cryptography.fernet import Fernet

        if self._path is None:
            raise CannotSeal(
                f"this service has no key to seal secrets with; {HOW_TO_MAKE}, and start mo-service and every mo-shim "
                "with --secrets-key FILE"
            )
        lines = _read_lines(self._path)
        if not lines:
            raise CannotSeal(f"{self._path} holds no key; {HOW_TO_MAKE}")
        try:
            return Keys(*map(Fernet, lines))
        except ValueError:
            raise CannotSeal(f"{self._path} holds what is no key; {HOW_TO_MAKE}") from None


def _read_lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            lines = file.read(LARGEST_FILE).split()
    except OSError as error:
        raise CannotSeal(f"can't read the --secrets-key {path}: {error.strerror}; {HOW_TO_MAKE}") from None
    if mode & 0o077:
        raise CannotSeal(f"others than its owner may read or write {path}; chmod 600 {path}")
    return lines


def _open(key: Fernet, sealed: bytes) -> bytes | None:
    from cryptography.fernet import InvalidToken

    try:
        return key.decrypt(sealed)
    except InvalidToken:
        return None
