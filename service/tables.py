"""Tables for people, as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return lines with the columns aligned, two spaces between them; numbers to the right.

    Columns with nothing in them are left out. Without headers the first column names the second.
    """
    table = [[header.upper() for header in headers]] if headers else []
    columns = [_align(column) for column in zip(*table, *rows, strict=True) if any(column[len(table) :])]
    return "".join("  ".join(row).rstrip() + "\n" for row in zip(*columns, strict=True))


def _align(column: Sequence[str]) -> Sequence[str]:
    width = max(map(len, column))
    is_numeric = all(not cell or cell[0].isdigit() for cell in column[1:])
    return [cell.rjust(width) if is_numeric else cell.ljust(width) for cell in column]


def size_text(count: int) -> str:
    """Return `512 B`, `1.5 KiB` or `10.0 GiB`."""
    if count < 1_024:
        return f"{count} B"
    size, unit = count / 1_024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if size < 1_024:
            break
        size, unit = size / 1_024, larger
    return f"{size:.1f} {unit}"


def seconds_text(seconds: float) -> str:
    """Return `42s`, `7m`, `3h` or `12d`."""
    whole = max(0, int(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if whole >= size:
            return f"{whole // size}{unit}"
    return f"{whole}s"
