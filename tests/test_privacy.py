"""What a process keeps in memory and in files is nobody else's business."""

from __future__ import annotations

import subprocess
import sys

import pytest

ASK = """
import ctypes, os, resource
from {package}.privacy import keep_private
os.umask(0)
keep_private()
print(oct(os.umask(0)), resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.parametrize("package", ["service", "shim"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_files_are_the_owners_alone_and_a_crash_leaves_no_memory(package: str) -> None:
    told = subprocess.run([sys.executable, "-c", ASK.format(package=package)], capture_output=True, check=True)
    assert told.stdout == b"0o77 (0, 0) 0\n"
