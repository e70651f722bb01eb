"""How many a second, by name, over the last minute."""

from __future__ import annotations

from service.store.contract import Clock

SECONDS = 60
MOST_NAMES = 10_000


class RateMeter:
    """Counts in memory, a slot a second: what happened more than a minute ago is forgotten."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots: dict[str, list[tuple[int, int]]] = {}

    def count(self, name: str, amount: int) -> None:
        """Note that something happened now. Names past the first 10,000 aren't counted."""
        if not amount or (name not in self._slots and len(self._slots) >= MOST_NAMES):
            return
        second = self._clock() // 1_000_000
        slots = self._slots.setdefault(name, [(0, 0)] * SECONDS)
        noted_second, noted = slots[second % SECONDS]
        slots[second % SECONDS] = (second, amount + (noted if noted_second == second else 0))

    def per_second(self, name: str) -> float:
        """Return the average of the last minute."""
        oldest = self._clock() // 1_000_000 - SECONDS
        return sum(amount for second, amount in self._slots.get(name, ()) if second > oldest) / SECONDS
