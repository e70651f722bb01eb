"""Python runs this at its start where this folder is in PYTHONPATH: in the processes that are to crash."""

from tests.faults import crash_vfs

KEPT = crash_vfs.register()
