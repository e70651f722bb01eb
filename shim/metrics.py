"""What the shim counts. Every label has a fixed set of values; its children are looked up once, not per request."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from shim.signature import SignatureCheck, Verdict

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class WebhookMetrics:
    """The public port."""

    def __init__(self, registry: CollectorRegistry, answers: frozenset[str]) -> None:
        counter = Counter(
            "mo_webhook_answers", "Requests on the public port, by what was answered.", ["answer"], registry=registry
        )
        self.answered = {answer: counter.labels(answer).inc for answer in sorted(answers)}
        self.seconds = Histogram(
            "mo_webhook_message_seconds",
            "From the last byte of a verified request to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.callers_gone = Counter(
            "mo_webhook_callers_gone", "Callers that hung up before their answer was there.", registry=registry
        )
        self.timeouts = Counter(
            "mo_webhook_timeouts", "Connections closed because a request didn't arrive in time.", registry=registry
        )
        self.connections = Gauge("mo_webhook_connections", "Open connections.", registry=registry)
        self.pauses = Counter(
            "mo_webhook_pauses",
            "Times that no more connections were accepted: as many were open as may.",
            registry=registry,
        )
        self.body_bytes = Gauge(
            "mo_webhook_body_bytes", "Bytes of requests that are not answered yet.", registry=registry
        )


class VerificationMetrics:
    """Who calls."""

    RESULTS = ("remembered", "correct", "wrong", "overloaded", "limited")

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter("mo_verifications", "Credentials checked, by result.", ["result"], registry=registry)
        self.remembered, self.correct, self.wrong, self.overloaded, self.limited = (
            counter.labels(result) for result in self.RESULTS
        )
        self.computations = Counter("mo_password_computations", "Argon2id computations.", registry=registry)
        self.waiting = Gauge("mo_password_computations_waiting", "Computations begun or waiting.", registry=registry)


class UpgradeMetrics:
    """Hashes of passwords that are made anew."""

    RESULTS = ("upgraded", "unwanted", "failed")

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = Counter(
            "mo_password_upgrades", "Hashes made anew, by what became of them.", ["result"], registry=registry
        )
        self.upgraded, self.unwanted, self.failed = (counter.labels(result) for result in self.RESULTS)


class ReplicaMetrics:
    """The replica of the channel directory."""

    QUESTIONS = ("answered", "unanswered", "not_asked")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.revision = Gauge("mo_replica_revision", "Revision of the directory that is held.", registry=registry)
        self.connected = Gauge("mo_replica_connected", "1 while the directory is followed.", registry=registry)
        self.age_seconds = Gauge(
            "mo_replica_age_seconds", "Since the directory was last heard of; NaN before.", registry=registry
        )
        self.changes = Counter("mo_replica_changes", "Channels received from the directory.", registry=registry)
        self.snapshots = Counter("mo_replica_snapshots", "Whole directories received.", registry=registry)
        questions = Counter(
            "mo_replica_questions",
            "Times that the copy of a channel was in doubt before a refusal.",
            ["result"],
            registry=registry,
        )
        self.answered, self.unanswered, self.not_asked = (questions.labels(result) for result in self.QUESTIONS)


class BatchingMetrics:
    """What goes to the service."""

    RESULTS = ("stored", "failed")

    def __init__(self, registry: CollectorRegistry) -> None:
        batches = Counter("mo_batches", "Batches sent to the service, by result.", ["result"], registry=registry)
        self._stored, self._failed = (batches.labels(result) for result in self.RESULTS)
        self._messages = Histogram(
            "mo_batch_messages",
            "Messages a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
            registry=registry,
        )
        self._seconds = Histogram("mo_batch_seconds", "How long a batch was out.", buckets=_SECONDS, registry=registry)
        self.waiting_messages = Gauge("mo_batch_waiting_messages", "Messages that wait for a batch.", registry=registry)
        self.waiting_bytes = Gauge("mo_batch_waiting_bytes", "Their bytes.", registry=registry)
        self.in_flight = Gauge("mo_batches_in_flight", "Batches that are out.", registry=registry)

    def observe(self, messages: int, seconds: float, *, failure: Exception | None) -> None:
        """Count a batch that came back."""
        (self._failed if failure else self._stored).inc()
        self._messages.observe(messages)
        self._seconds.observe(seconds)


class JournalMetrics:
    """The journal: what a worker appends, and what the host's drainer hands over."""

    OUTCOMES = ("accepted", "duplicate", "held", "erased", "quarantined", "kept_aside")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.appended = Counter("mo_journal_appended", "Entries that went into the journal.", registry=registry)
        self.refused = Counter("mo_journal_refused", "Entries that the journal had no room for.", registry=registry)
        self.broken = Counter("mo_journal_broken", "Entries that could not be written.", registry=registry)
        self.commit_seconds = Histogram(
            "mo_journal_commit_seconds", "How long a transaction took.", buckets=_SECONDS, registry=registry
        )
        self.waiting_entries = Gauge(
            "mo_journal_waiting_entries", "Entries that wait to be written.", registry=registry
        )
        self.messages = Gauge("mo_journal_messages", "Entries that wait for the service.", registry=registry)
        self.bytes = Gauge("mo_journal_bytes", "Their bytes.", registry=registry)
        self.oldest_seconds = Gauge(
            "mo_journal_oldest_seconds", "How long the oldest of them waits; 0 without any.", registry=registry
        )
        self.damaged = Gauge("mo_journal_damaged_files", "Damaged files that are kept.", registry=registry)
        handed_over = Counter(
            "mo_journal_handed_over", "Entries that the service has now, by outcome.", ["outcome"], registry=registry
        )
        self.handed_over = {outcome: handed_over.labels(outcome) for outcome in self.OUTCOMES}


class QuarantineMetrics:
    """Requests that are authenticated but no valid MO message."""

    RESULTS = ("kept", "journalled", "dropped")

    def __init__(self, registry: CollectorRegistry) -> None:
        requests = Counter(
            "mo_quarantine_requests", "Invalid requests, by whether they were kept.", ["result"], registry=registry
        )
        self.kept, self.journalled, self.dropped = (requests.labels(result) for result in self.RESULTS)


class SignatureMetrics:
    """The signatures of requests, on channels that check them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        signatures = Counter(
            "mo_signatures",
            "Signatures checked, by what the channel wants and what was found. Observed faults are let in.",
            ["check", "result"],
            registry=registry,
        )
        self._counted = {
            (check, verdict): signatures.labels(check.value, verdict.value)
            for check in (SignatureCheck.OBSERVE, SignatureCheck.ENFORCE)
            for verdict in Verdict
        }

    def count(self, check: SignatureCheck, verdict: Verdict) -> None:
        """Count a check."""
        self._counted[check, verdict].inc()


def process_registry() -> CollectorRegistry:
    """Return a registry that tells about this process already."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry
