"""The key file that seals secrets: a key a line, newest first, for its owner's eyes alone."""

import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from pathlib import Path

from shim.cli.usage import CommandError

_KEY_BYTES = 32
_LARGEST_FILE = 65_536


def make(path: Path) -> None:
    """Make a file with one new key. Raises `CommandError` when there is such a file, and `OSError`."""
    try:
        _write(path, [_new_key()])
    except FileExistsError as error:
        raise CommandError(
            f"{path} exists, and is left as it is; to put a newer key into it: mo secrets add-key {path}"
        ) from error


def add_key(path: Path) -> int:
    """Put a new key before the others, all at once; return how many there are now.

    The file stays its owner's. Raises `CommandError` when it is no key file, and `OSError`.
    """
    keys = [_new_key(), *_read(path)]
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)  # of somebody who was interrupted
    _write(fresh, keys)
    owner = path.stat()
    if (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
        os.chown(fresh, owner.st_uid, owner.st_gid)
    fresh.replace(path)
    return len(keys)


def _new_key() -> bytes:
    return urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES))


def _read(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        keys = file.read(_LARGEST_FILE).split()
    if not keys or not all(map(_is_key, keys)):
        raise CommandError(f"{path} is no key file; make one with: mo secrets init FILE")
    return keys


def _is_key(line: bytes) -> bool:
    try:
        return len(urlsafe_b64decode(line)) == _KEY_BYTES
    except Base64Error:
        return False


def _write(path: Path, keys: list[bytes]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o600)  # whatever the umask takes away
        file.write(b"".join(key + b"\n" for key in keys))
        file.flush()
        os.fsync(descriptor)
