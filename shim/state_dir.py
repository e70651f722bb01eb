"""The folder that a host keeps everything in: its owner's alone."""

from pathlib import Path

from shim.errors import StartError
from shim.privacy import make_private
from shim.settings import Settings


def find_journal(settings: Settings) -> Path:
    """Return the folder of the host's journal, in a state directory that is its owner's alone.

    Raises `StartError` when that can't be made.
    """
    try:
        settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(
            f"can't write in {settings.state_dir}: {error.strerror or error}; make it writable, or choose another with "
            "--state-dir"
        ) from error
    _close_to_others(settings.state_dir)
    return settings.state_dir / "journal"


def _close_to_others(state_dir: Path) -> None:
    """Take from others what somebody, or a back-up put back, may have given them; nothing that isn't ours."""
    ours = (state_dir / "journal", state_dir / "replicas", *state_dir.glob("replica.db*"))
    try:
        make_private([state_dir.resolve(), *ours, *(path for folder in ours[:2] for path in folder.rglob("*"))])
    except OSError as error:
        raise StartError(
            f"others may read {error.filename}, which is to hold messages: {error.strerror or error}; give it to the "
            f"user that mo-shim runs as (chown -R), or choose another --state-dir"
        ) from error
