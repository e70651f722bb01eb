"""The key file that opens the secrets of channels, which the service sealed with the same file.

Sealed, they lie in the replica; open, in this process's memory alone. The file is read again when it changes, so that
a key can be replaced while everything runs.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from shim.errors import StartError

if TYPE_CHECKING:  # only a shim that has a key file pays for the import
    from cryptography.fernet import MultiFernet

_log = logging.getLogger(__name__)

_MAX_OPENED = 20_000


class SecretsKey:
    """Opens what was sealed; remembers what it opened."""

    def __init__(self, path: Path) -> None:
        """Read the keys, one a line. Raises `StartError` when the file can't be used."""
        self._path = path
        self._opened: dict[bytes, bytes] = {}
        try:
            self._seen = _look(path)
            self._keys = read_keys(path)
        except (OSError, ValueError) as error:
            raise StartError(f"can't use the --secrets-key {path}: {_explain(error)}") from None

    def open(self, sealed: bytes) -> bytes | None:
        """Return what was sealed; None when no key in the file opens it. Takes a microsecond after the first time."""
        found = self._opened.get(sealed)
        if found is None:
            found = self._decrypt(sealed)
            if found is None and self._has_changed():
                found = self._decrypt(sealed)
            if found is not None:
                if len(self._opened) >= _MAX_OPENED:
                    self._opened.clear()
                self._opened[sealed] = found
        return found

    def _decrypt(self, sealed: bytes) -> bytes | None:
        from cryptography.fernet import InvalidToken

        try:
            return self._keys.decrypt(sealed)
        except InvalidToken:
            return None

    def _has_changed(self) -> bool:
        """Read the file again if it is another. One that can't be used changes nothing, and is logged once."""
        try:
            seen = _look(self._path)
            if seen == self._seen:
                return False
            self._seen = seen
            self._keys = read_keys(self._path)
        except (OSError, ValueError) as error:
            _log.warning("secrets_key_unusable", extra={"path": str(self._path), "reason": _explain(error)})
            return False
        self._opened.clear()
        _log.info("secrets_key_read", extra={"path": str(self._path)})
        return True


def read_keys(path: Path) -> "MultiFernet":
    """Read a key file: a key a line, newest first. Raises `OSError`, and `ValueError` that says what is wrong."""
    from cryptography.fernet import Fernet, MultiFernet

    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_mode & 0o077:
            raise ValueError(f"others than its owner may read or write it; chmod 600 {path}")
        lines = file.read(65_536).split()
    if not lines:
        raise ValueError("it holds no key; make one with: mo secrets init FILE")
    try:
        return MultiFernet([Fernet(line) for line in lines])
    except ValueError:
        raise ValueError("it holds what is no key; make one with: mo secrets init FILE") from None


def _look(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def _explain(error: OSError | ValueError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
