"""How often somebody may guess. Pure."""

from collections import OrderedDict
from collections.abc import Callable

_SECONDS = 60.0
_MAX_KEYS = 10_000


class GuessLimit:
    """So many guesses a minute for each key, all at once or one after the other.

    Keeps one number a key, for the keys used last: when it would be used up if guesses came at their steady rate.
    """

    def __init__(self, a_minute: int, clock: Callable[[], float]) -> None:
        self._interval = _SECONDS / a_minute
        self._clock = clock
        self._used_until: OrderedDict[str, float] = OrderedDict()

    def is_reached(self, key: str) -> bool:
        """Whether there is no guess left."""
        return self._used_until.get(key, 0.0) + self._interval > self._clock() + _SECONDS

    def take(self, key: str) -> None:
        """Use up a guess."""
        self._used_until[key] = max(self._used_until.get(key, 0.0), self._clock()) + self._interval
        self._used_until.move_to_end(key)
        if len(self._used_until) > _MAX_KEYS:
            self._used_until.popitem(last=False)

    def give_back(self, key: str) -> None:
        """Return what was taken: it was no guess."""
        if key in self._used_until:
            self._used_until[key] -= self._interval
