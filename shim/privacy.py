"""What a process keeps in memory and in files is nobody else's business."""

import contextlib
import ctypes
import os
import resource
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

_PR_SET_DUMPABLE = 4


def keep_private() -> None:
    """From now on files are made for their owner alone, and a crash leaves no memory behind.

    Where core dumps go to a program (systemd-coredump, apport), Linux doesn't ask for their limit: so the process is
    marked as well, which also keeps others of the same user from reading its memory.
    """
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def make_private(paths: Iterable[Path]) -> None:
    """Close files and folders that somebody left open to others.

    Links inside and what has gone meanwhile are left alone. Raises `OSError` with the path when that isn't allowed,
    so when another user owns it.
    """
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            mode = path.lstat().st_mode
            if mode & 0o077 and not stat.S_ISLNK(mode):
                path.chmod(mode & (0o700 if stat.S_ISDIR(mode) else 0o600))
