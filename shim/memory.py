"""What a process does about its memory, so that it stays small and is rarely looked through."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_M_MMAP_THRESHOLD = -3  # malloc.h of the GNU C library
_LARGE_BYTES = 2**20
_OBJECTS_BETWEEN_LOOKS = 20_000
"""Python's own 700 are there again with every few dozen requests, and what is looked at then is in use."""


def return_large_blocks() -> None:
    """Have large blocks given back when they are freed, such as argon2's of 19 MiB.

    The GNU C library keeps those that are asked for again and again, in each thread. Other libraries of C give them
    back by themselves, and have no such call.
    """
    import ctypes

    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


@contextmanager
def loading() -> Iterator[None]:
    """Load modules in this context without the garbage collector, which never looks at them afterwards either.

    What they make stays to the end, but for some hundred objects, and looking through it is a tenth of a start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def spare_what_is_there() -> None:
    """Have the garbage collector never look again at what exists now, which stays to the end, and seldom at the rest.

    Nearly everything is freed without it, as soon as nobody refers to it; it is for what refers to itself.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)
