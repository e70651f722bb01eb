"""Checks the signatures of channels that want it, and tells the service what was found, so that operators see it."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NoReturn

from shim.channel import Channel
from shim.errors import ServiceFaultError, ServiceUnavailableError
from shim.health import Readiness, Reason
from shim.link import Link
from shim.metrics import SignatureMetrics
from shim.secrets_key import SecretsKey
from shim.signature import Finding, Secret, SignatureCheck, SignedRequest, Verdict, check

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0
_SHOWN_SECONDS = 60.0
"""How long a check that could not be made is a reason to be degraded."""
_MAX_CHANNELS_AT_ONCE = 1_000
_MAX_CHANNELS = 10_000
"""Of which counts wait to be reported; those that have waited longest are dropped then: the metrics have them all."""


@dataclass(slots=True)
class _Count:
    count: int = 0
    last_at: float = 0.0
    unlogged: int = 0

    def add(self, other: "_Count") -> None:
        self.count += other.count
        self.last_at = max(self.last_at, other.last_at)
        self.unlogged += other.unlogged


_Counts = dict[tuple[SignatureCheck, Verdict], _Count]


class Signatures:
    """Checks requests against the secrets of their channels, for the URLs under which this shim is reached."""

    def __init__(
        self,
        *,
        bases: Sequence[str],
        key: SecretsKey | None,
        metrics: SignatureMetrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Check for these beginnings of URLs (`signature.parse_public_url`), with secrets that `key` opens."""
        self._bases = bases
        self._key = key
        self._metrics = metrics
        self._clock = clock
        self._counts: OrderedDict[str, _Counts] = OrderedDict()
        self._uncheckable_at: float | None = None

    def find_fault(self, channel: Channel, request: SignedRequest) -> Verdict | None:
        """Return why the request must not be taken; None when it may be, as it is signed or as nobody insists.

        For channels that check signatures.
        """
        verdict = self._check(channel, request)
        self._count(channel, verdict)
        is_wanted = verdict is Verdict.VALID or channel.signature_check is SignatureCheck.OBSERVE
        return None if is_wanted else verdict

    def find_reasons(self) -> Iterable[Reason]:
        """Say that signatures could not be checked lately, and what this shim lacks."""
        if self._uncheckable_at is None or self._clock() - self._uncheckable_at > _SHOWN_SECONDS:
            return
        yield Reason(
            Readiness.DEGRADED,
            "signatures_uncheckable",
            f"Signatures could not be checked: {self._find_lack()}. Where they are enforced, callers get 503.",
        )

    async def run(self, link: Link) -> NoReturn:
        """Report what was found every few seconds, for ever."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await self.report(link)

    async def report(self, link: Link) -> None:
        """Log what was wrong, and tell the service all that was found; what it doesn't take waits for the next time."""
        while self._counts:
            taken = list(islice(self._counts.items(), _MAX_CHANNELS_AT_ONCE))
            for channel_config_id, _ in taken:
                del self._counts[channel_config_id]
            _log_faults(taken)
            try:
                await link.report_signatures(list(_to_findings(taken)))
            except (ServiceUnavailableError, ServiceFaultError, asyncio.CancelledError) as error:
                for channel_config_id, counts in taken:
                    self._put_back(channel_config_id, counts)
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            _log_faults(taken)

    def _check(self, channel: Channel, request: SignedRequest) -> Verdict:
        secrets = [self._open(secret) for secret in channel.signature_secrets]
        known = [secret for secret in secrets if secret is not None]
        verdict = check(request, known, self._bases)
        is_hampered = len(known) < len(secrets) or not self._bases
        if is_hampered and verdict in {Verdict.MISMATCH, Verdict.NO_SECRET}:
            # It may be right: what would tell is missing here.
            return Verdict.UNCHECKABLE
        return verdict

    def _open(self, sealed: Secret) -> Secret | None:
        value = self._key.open(sealed.value) if self._key else None
        return None if value is None else Secret(sealed.kind, value)

    def _find_lack(self) -> str:
        if not self._bases:
            return "give the URL that is entered at Twilio with --public-url"
        if self._key is None:
            return "give the service's key file with --secrets-key"
        return "no key in the file of --secrets-key opens a secret; copy the service's file here"

    def _count(self, channel: Channel, verdict: Verdict) -> None:
        now = self._clock()
        self._metrics.count(channel.signature_check, verdict)
        if verdict is Verdict.UNCHECKABLE:
            self._uncheckable_at = now
        counts = self._find_counts(channel.channel_config_id)
        counts.setdefault((channel.signature_check, verdict), _Count()).add(_Count(1, now, 1))

    def _put_back(self, channel_config_id: str, counts: _Counts) -> None:
        known = self._find_counts(channel_config_id)
        for key, found in counts.items():
            known.setdefault(key, _Count()).add(found)

    def _find_counts(self, channel_config_id: str) -> _Counts:
        counts = self._counts.setdefault(channel_config_id, {})
        if len(self._counts) > _MAX_CHANNELS:
            self._counts.popitem(last=False)
        return counts


def _to_findings(taken: Iterable[tuple[str, _Counts]]) -> Iterator[Finding]:
    for channel_config_id, counts in taken:
        sums: dict[Verdict, _Count] = {}
        for (_, verdict), count in counts.items():
            sums.setdefault(verdict, _Count()).add(count)
        for verdict, count in sums.items():
            yield Finding(channel_config_id, verdict, count.count, count.last_at)


def _log_faults(taken: Iterable[tuple[str, _Counts]]) -> None:
    for channel_config_id, counts in taken:
        for (signature_check, verdict), count in counts.items():
            if verdict is not Verdict.VALID and count.unlogged:
                is_refused = signature_check is SignatureCheck.ENFORCE
                event = "signatures_refused" if is_refused else "signatures_would_be_refused"
                facts = {"channel": channel_config_id, "reason": verdict.value, "requests": count.unlogged}
                _log.warning(event, extra=facts)
                count.unlogged = 0
