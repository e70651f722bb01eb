"""What a process keeps in memory and in files is nobody else's business."""

import ctypes
import os
import resource
import sys

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
