"""Entries as their bytes lie in a damaged file, found without SQLite, which gives up at the first wrong page.

Reads each page of the file and of its WAL by itself, and believes nothing but an entry's own checksum. Pages that were
freed are read too: what is found may have been handed over before. Source: sqlite.org/fileformat2.html.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from shim.journal.entry import Entry, checksum
from shim.journal.entry_file import PAGE_BYTES

_LEAF = 0x0D
_WAL_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24
_MOST_LOCAL = PAGE_BYTES - 35
_LEAST_LOCAL = (PAGE_BYTES - 12) * 32 // 255 - 23
_OVERFLOW_BYTES = PAGE_BYTES - 4
_LARGEST_RECORD = 2**24
_INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}

_GetPage = Callable[[int], bytes]


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield every entry whose checksum fits, in no order, some more than once."""
    wal_path = path.with_name(path.name + "-wal")
    with path.open("rb") as file:
        if not wal_path.exists():
            yield from _read(_file_pages(file), [lambda number: _page(file, number)])
            return
        with wal_path.open("rb") as wal:
            newest = _newest_frames(wal)

            def newest_page(number: int) -> bytes:
                return _frame(wal, newest[number]) if number in newest else _page(file, number)

            views: list[_GetPage] = [newest_page, lambda number: _page(file, number)]
            yield from _read(_file_pages(file), views)
            yield from _read(_wal_pages(wal), views)


def _read(pages: Iterator[bytes], views: list[_GetPage]) -> Iterator[Entry]:
    for page in pages:
        for cell in _cells(page):
            for get_page in views:
                # A long entry goes on in other pages, of which there may be an old and a new version.
                if entry := _parse(page, cell, get_page):
                    yield entry
                    break


def _file_pages(file: BinaryIO) -> Iterator[bytes]:
    number = 1
    while page := _page(file, number):
        yield page
        number += 1


def _wal_pages(wal: BinaryIO) -> Iterator[bytes]:
    index = 0
    while page := _frame(wal, index):
        yield page
        index += 1


def _page(file: BinaryIO, number: int) -> bytes:
    return _at(file, (number - 1) * PAGE_BYTES)


def _frame(wal: BinaryIO, index: int) -> bytes:
    return _at(wal, _WAL_HEADER_BYTES + index * (_FRAME_HEADER_BYTES + PAGE_BYTES) + _FRAME_HEADER_BYTES)


def _at(file: BinaryIO, offset: int) -> bytes:
    if offset < 0:
        return b""
    file.seek(offset)
    return file.read(PAGE_BYTES)


def _newest_frames(wal: BinaryIO) -> dict[int, int]:
    newest: dict[int, int] = {}
    index = 0
    while True:
        wal.seek(_WAL_HEADER_BYTES + index * (_FRAME_HEADER_BYTES + PAGE_BYTES))
        header = wal.read(4)
        if len(header) < 4:
            return newest
        newest[int.from_bytes(header, "big")] = index
        index += 1


def _cells(page: bytes) -> Iterator[int]:
    """Yield where the cells of a leaf may begin."""
    if len(page) < 8 or page[0] != _LEAF:
        return
    count = min(int.from_bytes(page[3:5], "big"), (len(page) - 8) // 2)
    for place in range(8, 8 + 2 * count, 2):
        yield int.from_bytes(page[place : place + 2], "big")


def _parse(page: bytes, cell: int, get_page: _GetPage) -> Entry | None:
    try:
        size, at = _varint(page, cell)
        number, at = _varint(page, at)
        record = _record(page, at, size, get_page)
        values = _values(record)
    except (IndexError, ValueError):
        return None
    if len(values) != 4:
        return None
    stamp, kind, payload, digest = values
    if not isinstance(stamp, int) or not isinstance(kind, int) or not isinstance(payload, bytes):
        return None
    return Entry(number, stamp, kind, payload) if checksum(stamp, kind, payload) == digest else None


def _record(page: bytes, at: int, size: int, get_page: _GetPage) -> bytes:
    if size > _LARGEST_RECORD:
        raise ValueError("no entry is that large")
    if size <= _MOST_LOCAL:
        return page[at : at + size]
    local = _LEAST_LOCAL + (size - _LEAST_LOCAL) % _OVERFLOW_BYTES
    local = local if local <= _MOST_LOCAL else _LEAST_LOCAL
    pieces = [page[at : at + local]]
    following = int.from_bytes(page[at + local : at + local + 4], "big")
    for _ in range(-(-(size - local) // _OVERFLOW_BYTES)):
        overflow = get_page(following)
        pieces.append(overflow[4:])
        following = int.from_bytes(overflow[:4], "big")
    return b"".join(pieces)[:size]


def _values(record: bytes) -> list[int | bytes]:
    """Return a record's columns after the first, which is the number and stored elsewhere."""
    end, at = _varint(record, 0)
    types = []
    while at < end:
        kind, at = _varint(record, at)
        types.append(kind)
    values: list[int | bytes] = []
    for kind in types[1:]:
        length = (kind - 12) // 2 if kind >= 12 else _INTEGER_BYTES.get(kind, 0)
        raw = record[at : at + length]
        at += length
        values.append(raw if kind >= 12 else int.from_bytes(raw, "big", signed=True) if length else kind - 8)
    return values


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(8):
        octet = data[at + place]
        value = value << 7 | octet & 0x7F
        if octet < 0x80:
            return value, at + place + 1
    return value << 8 | data[at + 8], at + 9
