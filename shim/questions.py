"""The question that a shim asks before it refuses a caller: whether its copy of the channel is current.

So a password that was changed a moment ago is good at once, and nobody is refused for a channel that was just made.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from shim.errors import ServiceFaultError, ServiceUnavailableError, StorageError
from shim.link import Link
from shim.metrics import ReplicaMetrics
from shim.replica import Replica

_SECONDS_BETWEEN = 1.0  # longer than an answer may take, so one question at a time too
_MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class _Question:
    asked_at: float
    answer: asyncio.Task[None]


class Questions:
    """Asks the service about single channels: each at most once a second, and one question at a time."""

    def __init__(self, link: Link, replica: Replica, *, metrics: ReplicaMetrics, clock: Callable[[], float]) -> None:
        self._link = link
        self._replica = replica
        self._metrics = metrics
        self._clock = clock
        self._questions: OrderedDict[str, _Question] = OrderedDict()

    async def ask(self, channel_config_id: str) -> None:
        """See that the replica knows what the service knows of a channel, or that half a second has passed.

        Who asks while the same question is out waits for the same answer. Asks nobody who was asked less than a second
        ago. Asks also while the directory isn't followed: for a moment after each start, the service is there and the
        copy is old.
        """
        question = self._questions.get(channel_config_id)
        if question is None or self._clock() - question.asked_at >= _SECONDS_BETWEEN:
            question = self._put(channel_config_id)
        elif question.answer.done():
            self._metrics.not_asked.inc()
            return
        await asyncio.shield(question.answer)

    def _put(self, channel_config_id: str) -> _Question:
        task = asyncio.get_running_loop().create_task(self._find_out(channel_config_id))
        question = self._questions[channel_config_id] = _Question(self._clock(), task)
        self._questions.move_to_end(channel_config_id)
        if len(self._questions) > _MAX_REMEMBERED:
            self._questions.popitem(last=False)
        return question

    async def _find_out(self, channel_config_id: str) -> None:
        try:
            replica = await self._link.ask(channel_config_id)
            if replica is not None:
                self._replica.learn(replica)
        except (ServiceUnavailableError, ServiceFaultError, StorageError):
            # Then the copy decides; that the service is away is logged and counted where it is followed.
            self._metrics.unanswered.inc()
        else:
            self._metrics.answered.inc()
