"""How a replay reads: the columns of a list, and the lines of one. Pure."""

from collections.abc import Callable

from aicc.mo.v1.message_feed_pb2 import Replay, ReplaySelection

from shim.cli.texts import time_text


def replay_columns() -> dict[str, Callable[[Replay], str]]:
    """Return the columns of a list of replays."""
    return {
        "started": lambda item: time_text(item.start_time),
        "id": lambda item: item.replay_id,
        "destination": lambda item: item.destination,
        "messages": lambda item: _selection_text(item.selection),
        "queued": _queued_text,
        "state": _state_text,
        "by": lambda item: item.requested_by,
    }


def replay_fields(item: Replay) -> dict[str, str]:
    """Return the lines of one replay."""
    return {
        "id": item.replay_id,
        **_plan_fields(item),
        "by": item.requested_by,
        "started": time_text(item.start_time),
        "ended": time_text(item.end_time) if item.HasField("end_time") else "",
        "queued": _queued_text(item),
        "state": _state_text(item),
    }


def counted_fields(item: Replay) -> dict[str, str]:
    """Return the lines of a replay that was only counted."""
    return {**_plan_fields(item), "total": str(item.total)}


def _plan_fields(item: Replay) -> dict[str, str]:
    return {
        "destination": item.destination,
        "messages": _selection_text(item.selection),
        "rate": f"up to {item.max_rate} a second",
    }


def _selection_text(item: ReplaySelection) -> str:
    """Return `channel C17, route vip, since 2026-11-22T17:00:00.000Z`."""
    parts = {
        "channel": item.channel_config_id,
        "sender": item.sender,
        "route": item.route_id,
        "since": time_text(item.start_time) if item.HasField("start_time") else "",
        "until": time_text(item.end_time) if item.HasField("end_time") else "",
    }
    return ", ".join(f"{name} {value}" for name, value in parts.items() if value)


def _queued_text(item: Replay) -> str:
    return f"{item.queued} of {item.total}"


def _state_text(item: Replay) -> str:
    if item.is_cancelled:
        return "cancelled"
    return "done" if item.HasField("end_time") else "going on"
