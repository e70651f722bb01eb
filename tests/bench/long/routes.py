"""What routing alone costs a message, with 1 to 1,000 routes of every kind on its channel.

Alternates between the numbers of routes, and takes the median of the rounds.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from service.models import MessageFacts, Route, TimeWindow
from service.routing import RouteIndex, decide, explain, find_warnings
from tests.bench.scenario import Figure, Figures, Options, spread
from tests.service.builders import a_channel

COUNTS = (1, 10, 100, 1_000)
ROUNDS = 15
MESSAGES = 300
ZONES = ("Europe/Berlin", "Asia/Kolkata", "America/New_York", "UTC")


def run(_options: Options) -> Figures:
    """Return microseconds a message for each number of routes."""
    chance = random.Random(7)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(5_000)]
    indexes = {count: RouteIndex([_route(number, words) for number in range(count)]) for count in COUNTS}
    messages = [_message(chance, words) for _ in range(MESSAGES)]
    rounds: dict[int, list[float]] = {count: [] for count in COUNTS}
    for _ in range(ROUNDS):
        for count, index in indexes.items():
            rounds[count].append(_microseconds(index, messages))
    figures: dict[str, Figure] = {
        f"{count:,} routes: us/message": spread(values, 1) for count, values in rounds.items()
    }
    most = indexes[COUNTS[-1]]
    matched = sum(most.find(message) is not None for message in messages)
    figures["1,000 routes: % of messages that match one"] = round(matched / MESSAGES * 100)
    figures.update(_once(most.routes, messages))
    return figures


def _microseconds(index: RouteIndex, messages: Sequence[MessageFacts]) -> float:
    channel = a_channel()
    started = time.perf_counter()
    for message in messages:
        decide(channel, index, message, "whatsapp:+14155238886")
    return (time.perf_counter() - started) / len(messages) * 1e6


def _once(routes: Sequence[Route], messages: Sequence[MessageFacts]) -> Figures:
    """What happens with a change of the routes, or when somebody asks."""
    started = time.perf_counter()
    index = RouteIndex(routes)
    indexed = time.perf_counter()
    list(find_warnings(index))
    examined = time.perf_counter()
    explain(routes, messages[0])
    explained = time.perf_counter()
    steps = {
        "to index": indexed - started,
        "to look for warnings": examined - indexed,
        "to explain": explained - examined,
    }
    return {f"1,000 routes: ms {name}": round(seconds * 1e3, 1) for name, seconds in steps.items()}


def _route(number: int, words: Sequence[str]) -> Route:
    """Return the next kind of route; one in ten has two matchers."""
    name, word = f"r{number}", words[number]
    zone, at = ZONES[number // 8 % len(ZONES)], 37 * number % 1440
    kinds = (
        Route(name, ("bot",), keywords=(word, f"{word} {words[number + 1]}")),
        Route(name, ("bot",), body_pattern=rf"(?i)\b{word}\s*#?\d{{2,6}}"),
        Route(name, ("bot",), sender_prefixes=(f"+44770{number:04}",)),
        Route(name, ("bot",), message_types=("IMAGE",), keywords=(word,)),
        Route(name, ("bot",), button_payloads=(f"pay:{number}",)),
        Route(name, ("bot",), time_windows=(TimeWindow(zone, (1 + number % 7,), at, at // 2),), is_reply=True),
        Route(name, ("bot",), basis_points=100, has_referral=True),
        Route(name, ("bot",), body_pattern=rf"^{word}\b.*{words[number + 1][:3]}"),
    )
    return kinds[number % len(kinds)]


def _message(chance: random.Random, words: Sequence[str]) -> MessageFacts:
    """Return a message of 12 words, one in ten with a word that a route looks for."""
    wanted = words[: COUNTS[-1]] if chance.random() < 0.1 else words[COUNTS[-1] + 1 :]
    others = chance.choices(words[COUNTS[-1] + 1 :], k=11)
    body = " ".join([*others, chance.choice(wanted), f"#{chance.randrange(10_000)}"])
    return MessageFacts(
        "C1",
        (chance.choice(["TEXT", "TEXT", "TEXT", "IMAGE"]),),
        f"whatsapp:+44770{chance.randrange(10**7):07}",
        1_790_000_000_000_000 + chance.randrange(10**12),
        body,
        None,
        chance.random() < 0.2,
        chance.random() < 0.1,
    )
