"""The bounds of what goes to the service at a time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """The bounds of a `Batcher`."""

    max_in_flight: int = 3
    """How many batches may be out at once. Fewer are larger, and cost fewer calls; but with one, the service waits for
    the shim while the shim waits for it. The service commits together what arrives together."""
    gather_seconds: float = 0.005
    """How long after a batch the next one leaves at the earliest, if somebody began to wait for it while one was out,
    unless it is full. A batch costs as much as a dozen messages in it. Those whom the last one answers meanwhile send
    their next requests in time for it: without this, half of the callers would wait for the other half in turn."""
    max_messages: int = 500
    """How many messages a batch may hold. The service takes 1,000."""
    max_bytes: int = 2**21 - 2**16
    """How many bytes a batch may hold, unless one message alone is larger. The service takes 2 MiB."""
    max_waiting_messages: int = 10_000
    """How many messages may wait for a batch."""
    max_waiting_bytes: int = 32 * 2**20
    """How many bytes may wait for a batch."""
    max_wait_seconds: float = 5.0
    """How long a message may wait for its batch to leave: with the batch's own 2 s that is within 10 s in all."""
