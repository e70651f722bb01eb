"""The key file, and what is sealed with it: in the service, and opened in a shim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from service.errors import CannotSeal
from service.secrets import KeyFile
from shim.errors import StartError
from shim.secrets_key import SecretsKey


def write_keys(path: Path, *keys: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(b"\n".join(keys) + b"\n")
    path.chmod(mode)
    return path


@pytest.fixture
def old_key() -> bytes:
    return Fernet.generate_key()


@pytest.fixture
def path(tmp_path: Path, old_key: bytes) -> Path:
    return write_keys(tmp_path / "secrets.key", old_key)


def test_what_is_sealed_is_opened_by_service_and_shim_and_says_nothing(path: Path) -> None:
    sealed = KeyFile(path).load().seal(b"the auth token")

    assert b"token" not in sealed
    assert KeyFile(path).load().open(sealed) == b"the auth token"
    assert SecretsKey(path).open(sealed) == b"the auth token"


def test_a_newer_key_seals_and_the_older_one_goes_on_opening(path: Path, old_key: bytes) -> None:
    sealed = KeyFile(path).load().seal(b"a")
    new_key = Fernet.generate_key()
    write_keys(path, new_key, old_key)
    keys = KeyFile(path).load()

    resealed = keys.reseal(sealed)

    assert resealed is not None
    assert keys.open(sealed) == Fernet(new_key).decrypt(resealed) == b"a"
    assert keys.reseal(resealed) == resealed


def test_what_no_key_opens_is_neither_opened_nor_resealed(path: Path) -> None:
    foreign = Fernet(Fernet.generate_key()).encrypt(b"a")
    keys = KeyFile(path).load()

    assert keys.open(foreign) is keys.reseal(foreign) is None
    assert keys.open(b"no token at all") is None


def test_a_shim_reads_the_file_again_when_it_has_changed(path: Path, old_key: bytes) -> None:
    key = SecretsKey(path)
    newer = Fernet.generate_key()
    sealed = Fernet(newer).encrypt(b"a")

    assert key.open(sealed) is None
    write_keys(path, newer, old_key)
    assert key.open(sealed) == b"a"


def test_a_shim_keeps_its_keys_when_the_file_can_no_longer_be_used(path: Path) -> None:
    key = SecretsKey(path)
    sealed = KeyFile(path).load().seal(b"a")
    path.unlink()

    assert key.open(b"of another key") is None
    assert key.open(sealed) == b"a"


BAD_FILES: dict[str, tuple[str, Callable[[Path, bytes], object]]] = {
    "a file that others can read": ("chmod 600", lambda path, key: write_keys(path, key, mode=0o640)),
    "a file that others can write": ("chmod 600", lambda path, key: write_keys(path, key, mode=0o602)),
    "an empty file": ("no key", lambda path, _: write_keys(path)),
    "a file of something else": ("no key", lambda path, _: write_keys(path, b"hello")),
    "a good key and a bad one": ("no key", lambda path, key: write_keys(path, key, b"hello")),
    "no file": ("No such file", lambda path, _: path.unlink(missing_ok=True)),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_service_and_shim_refuse_a_bad_file_and_say_what_to_do(case: str, path: Path, old_key: bytes) -> None:
    told, spoil = BAD_FILES[case]
    spoil(path, old_key)

    with pytest.raises(CannotSeal, match=told) as refused:
        KeyFile(path).check()
    with pytest.raises(StartError, match=told):
        SecretsKey(path)
    assert old_key.decode() not in str(refused.value)


def test_a_service_without_a_file_starts_and_cannot_seal() -> None:
    KeyFile(None).check()
    with pytest.raises(CannotSeal, match="mo secrets init"):
        KeyFile(None).load()
