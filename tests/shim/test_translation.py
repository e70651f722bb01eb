"""Form -> message -> form: nothing is lost, whatever somebody posts."""

from collections import Counter
from urllib.parse import parse_qsl, urlencode

import pytest
from aicc.mo.v1.message_pb2 import MessageType, MoMessage
from hypothesis import given
from hypothesis import strategies as st

from shim.translation import TRANSLATORS, twilio
from shim.translation.forms import MAX_PARAMETERS, Form, FormError, parse_form

KEYS = [("From", "whatsapp:+447700900123"), ("To", "whatsapp:+14155238886"), ("MessageSid", "SM1")]

KNOWN = [
    *twilio.PARAMETER_NAMES.values(),
    *("Body", "WaId", "Forwarded", "FrequentlyForwarded", "Latitude", "Longitude", "Label", "ButtonText"),
    *("ReferralBody", "ReferralNumMedia", "NumMedia", "OriginalRepliedMessageSid", "ErrorCode"),
]
known_names = st.sampled_from(KNOWN)
media_names = st.builds(
    lambda kind, number: f"Media{kind}{number}",
    st.sampled_from(["Url", "ContentType"]),
    st.sampled_from(["0", "1", "2", "3", "5", "00", "01", "-1", "", "٣", "99999999999"]),
)
texts = st.text(max_size=20)
values = texts | st.sampled_from(["true", "false", "True", "", "image", "text"])
forms = st.lists(st.tuples(known_names | media_names | texts, values), max_size=40)


def translate(form: Form, *, infer: bool = True) -> MoMessage:
    return twilio.to_message(form, "C1", 1_700_000_000_000_000_001, infer)


def message_of(*parameters: tuple[str, str], infer: bool = True) -> MoMessage:
    return translate([*KEYS, *parameters], infer=infer)


@given(forms)
def test_every_form_comes_back_with_the_same_parameters_as_often(form: Form) -> None:
    form = [*KEYS, *form]
    message = MoMessage.FromString(translate(form).SerializeToString())
    assert Counter(twilio.to_form(message)) == Counter(form)


@given(st.permutations([*KEYS, ("MessageType", "text"), ("X", "1"), ("X", "2"), ("From", "again"), ("Body", "")]))
def test_of_a_repeated_parameter_the_first_counts_and_the_others_keep_their_order(form: Form) -> None:
    message = translate(form)
    senders = [value for name, value in form if name == "From"]
    assert message.sender == senders[0]
    others = [(name, value) for name, value in form if name == "X" or (name, value) == ("From", senders[1])]
    assert [(parameter.name, parameter.value) for parameter in message.other_parameters] == others


@given(st.lists(st.tuples(texts, texts), max_size=30))
def test_a_form_is_read_as_it_was_written(pairs: list[tuple[str, str]]) -> None:
    # An empty name with an empty value is written as "=", which is a parameter.
    assert parse_form(urlencode(pairs).encode()) == pairs


@given(st.text(alphabet="ab%=&+;\\x0fF2é ", max_size=40))
def test_any_body_is_read_as_pythons_own_parser_reads_it(text: str) -> None:
    body = text.encode()
    try:
        expected = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(FormError):
            parse_form(body)
    else:
        assert parse_form(body) == expected


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", []),
        (b"&&a=1&&", [("a", "1")]),
        (b"a", [("a", "")]),
        (b"=", [("", "")]),
        (b"a=b=c;d", [("a", "b=c;d")]),
        (b"a+b=c+d%2B", [("a b", "c d+")]),
        (b"a=%&b=%4&c=%zz%41", [("a", "%"), ("b", "%4"), ("c", "%zzA")]),
        (b"a=\\x41\\%5cn", [("a", "\\x41\\\\n")]),
        (b"a=%00%0A", [("a", "\x00\n")]),
        ("a=é%C3%A9".encode(), [("a", "éé")]),
        (b"%41=%F0%9F%91%8B", [("A", "👋")]),
    ],
)
def test_a_form_is_read_as_the_url_standard_says(body: bytes, form: Form) -> None:
    assert parse_form(body) == form


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%FF", b"%C3=1", b"a=%ED%A0%80", b"a=%C0%80", b"a=%zz%ff"])
def test_what_is_not_utf_8_is_refused(body: bytes) -> None:
    with pytest.raises(FormError, match="UTF-8"):
        parse_form(body)


def test_200_parameters_are_the_most() -> None:
    assert len(parse_form(b"a&&" * MAX_PARAMETERS)) == MAX_PARAMETERS
    with pytest.raises(FormError, match="200"):
        parse_form(b"a&" * (MAX_PARAMETERS + 1))


@pytest.mark.parametrize(
    ("name", "message_type"),
    [
        ("TEXT", MessageType.MESSAGE_TYPE_TEXT),
        ("image", MessageType.MESSAGE_TYPE_IMAGE),
        ("VEDIO", MessageType.MESSAGE_TYPE_VIDEO),
        ("Video", MessageType.MESSAGE_TYPE_VIDEO),
        ("audio", MessageType.MESSAGE_TYPE_AUDIO),
        ("LOCATION", MessageType.MESSAGE_TYPE_LOCATION),
        ("document", MessageType.MESSAGE_TYPE_DOCUMENT),
        ("sticker", MessageType.MESSAGE_TYPE_STICKER),
        ("contacts", MessageType.MESSAGE_TYPE_CONTACTS),
        ("contact", MessageType.MESSAGE_TYPE_CONTACTS),
        ("interactive", MessageType.MESSAGE_TYPE_INTERACTIVE),
        ("button", MessageType.MESSAGE_TYPE_BUTTON),
        ("hologram", MessageType.MESSAGE_TYPE_UNSPECIFIED),
    ],
)
def test_a_type_is_known_without_case_and_its_name_is_kept(name: str, message_type: MessageType.ValueType) -> None:
    message = message_of(("MessageType", name))
    assert (message.message_type, message.message_type_name) == (message_type, name)


@pytest.mark.parametrize(
    ("parameters", "message_type"),
    [
        ([], MessageType.MESSAGE_TYPE_TEXT),
        ([("Latitude", "1"), ("MediaUrl0", "u")], MessageType.MESSAGE_TYPE_LOCATION),
        ([("MediaContentType0", "image/jpeg")], MessageType.MESSAGE_TYPE_IMAGE),
        ([("MediaContentType0", "IMAGE/PNG; a=b")], MessageType.MESSAGE_TYPE_IMAGE),
        ([("MediaContentType0", "video/mp4")], MessageType.MESSAGE_TYPE_VIDEO),
        ([("MediaContentType0", "audio/ogg")], MessageType.MESSAGE_TYPE_AUDIO),
        ([("MediaContentType0", "text/vcard")], MessageType.MESSAGE_TYPE_CONTACTS),
        ([("MediaContentType0", "image/webp")], MessageType.MESSAGE_TYPE_STICKER),
        ([("MediaContentType0", "application/pdf")], MessageType.MESSAGE_TYPE_DOCUMENT),
        ([("MediaUrl0", "u")], MessageType.MESSAGE_TYPE_DOCUMENT),
    ],
)
def test_the_type_is_inferred_where_the_channel_allows_it(
    parameters: list[tuple[str, str]], message_type: MessageType.ValueType
) -> None:
    message = message_of(*parameters)
    assert (message.message_type, message.HasField("message_type_name")) == (message_type, False)
    empty = message_of(("MessageType", ""), *parameters)
    assert (empty.message_type, empty.message_type_name) == (message_type, "")


def test_media_is_taken_up_to_the_first_gap() -> None:
    message = message_of(
        ("MediaUrl1", "b"), ("MediaUrl0", "a"), ("MediaContentType2", "c"), ("MediaUrl4", "e"), ("MediaUrl00", "z")
    )
    assert [(item.url, item.content_type) for item in message.media] == [("a", ""), ("b", ""), ("", "c")]
    assert [parameter.name for parameter in message.other_parameters] == ["MediaUrl4", "MediaUrl00"]


def test_flags_are_flags_only_as_twilio_writes_them() -> None:
    message = message_of(("Forwarded", "true"), ("FrequentlyForwarded", "yes"))
    assert message.forwarded
    assert not message.HasField("frequently_forwarded")
    assert message.other_parameters[0].value == "yes"


def test_absent_and_empty_differ() -> None:
    assert message_of(("Body", "")).HasField("body")
    assert not message_of().HasField("body")
    assert message_of(("Latitude", "")).HasField("location")
    assert not message_of().HasField("location")


def test_the_time_of_receipt_is_exact() -> None:
    assert message_of().receive_time.ToNanoseconds() == 1_700_000_000_000_000_001


@pytest.mark.parametrize("value", ["\x00", "a\nb", "\x7f", "\x85", "S" * 65, ""])
def test_a_message_sid_out_of_bounds_is_refused_without_repeating_it(value: str) -> None:
    form = [*KEYS[:2], ("MessageSid", value)]
    with pytest.raises(FormError) as caught:
        translate(form)
    assert [violation.field for violation in caught.value.violations] == ["MessageSid"]
    assert len(value) == 0 or value not in str(caught.value.violations)


def test_people_without_a_number_are_welcome() -> None:
    form = [("From", "whatsapp:GB." + "a" * 138), *KEYS[1:], ("MessageType", "text")]
    assert translate(form, infer=False).sender == form[0][1]


def test_every_missing_parameter_is_named() -> None:
    with pytest.raises(FormError) as caught:
        translate([], infer=False)
    assert [violation.field for violation in caught.value.violations] == ["From", "To", "MessageSid", "MessageType"]


def test_the_registry_knows_twilio_whole() -> None:
    translator = TRANSLATORS["twilio"]
    message = translator.to_message([*KEYS, ("MessageType", "text")], "C1", 0, False)
    assert Counter(translator.to_form(message)) == Counter([*KEYS, ("MessageType", "text")])
    assert translator.is_status_callback([("MessageStatus", "sent")])
    assert translator.parameter_names["message_sid"] == "MessageSid"
