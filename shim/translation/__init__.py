"""The translators: one module for each integrator that may stand in the webhook's URL."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aicc.mo.v1.message_pb2 import MoMessage

from shim.translation import twilio
from shim.translation.forms import Form


@dataclass(frozen=True, slots=True)
class Translator:
    """How one integrator's requests become messages."""

    is_status_callback: Callable[[Form], bool]
    """Whether the form tells about a message of ours instead of bringing one in."""

    to_message: "ToMessage"

    to_form: Callable[[MoMessage], Form]
    """The inverse: the same parameters, as often, in another order perhaps."""

    parameter_names: Mapping[str, str]
    """What the integrator calls the required fields of a message."""


class ToMessage(Protocol):
    """Form, channel, time of receipt in ns, infer the type? -> message; `FormError` names every bad parameter."""

    def __call__(
        self,
        form: Form,
        channel_config_id: str,
        received_at_ns: int,
        infer_message_type: bool,
        make: Callable[..., MoMessage] = MoMessage,
        /,
    ) -> MoMessage:
        """`make` makes the message of its fields: in the batch that it is for, it needn't be copied there."""


TRANSLATORS: Mapping[str, Translator] = {
    "twilio": Translator(
        is_status_callback=twilio.is_status_callback,
        to_message=twilio.to_message,
        to_form=twilio.to_form,
        parameter_names=twilio.PARAMETER_NAMES,
    ),
}
