"""The journal: where the shim keeps what the service can't take now, until it can.

Each worker appends to a file of its own (`Journal`), the host's one `drainer.Drainer`, which no worker loads, merges
all files and hands over oldest first, and `Marks`, shared memory of all of them, say whether anything waits. All of it
lives in one folder.
"""

from shim.journal.entry import Entry, EntryKind, JournalError, JournalFullError
from shim.journal.marks import Marks
from shim.journal.writer import Journal

__all__ = ["Entry", "EntryKind", "Journal", "JournalError", "JournalFullError", "Marks"]
