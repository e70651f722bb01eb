"""Messages of about 600 bytes, made without a webhook."""

from __future__ import annotations

from aicc.mo.v1 import message_pb2 as message_pb

from service.models import Decision, IncomingMessage, MessageFacts, RoutedMessage

DESTINATION = "default"
_BODY = "Hello, where is my order #4711? " * 15


def a_text(number: int, *, conversations: int, channel_config_id: str = "C1") -> message_pb.MoMessage:
    """Return the text message of that number; its conversation is one of so many, in turn."""
    return message_pb.MoMessage(
        channel_config_id=channel_config_id,
        message_sid=f"SM{number:032d}",
        sender=f"whatsapp:+4477{number % conversations:08d}",
        receiver="whatsapp:+14155238886",
        message_type=message_pb.MESSAGE_TYPE_TEXT,
        message_type_name="text",
        body=_BODY,
    )


def a_routed_text(number: int, *, conversations: int, channel_config_id: str = "C1") -> RoutedMessage:
    """Return the same, ready to be recorded by a store."""
    message = a_text(number, conversations=conversations, channel_config_id=channel_config_id)
    key = (message.channel_config_id, message.message_sid, message.sender, message.receiver)
    return RoutedMessage(IncomingMessage(*key, 0, _facts, message.SerializeToString()), Decision((DESTINATION,)))


def _facts() -> MessageFacts:
    return MessageFacts("C1", ("TEXT",), "", 0)
