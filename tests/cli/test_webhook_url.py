"""What is to be entered at Twilio, and which public URLs can't be right."""

from __future__ import annotations

import pytest

from shim.cli.webhook_url import entries, faults, remarks

PRIMARY = "https://mo.example.com"


def test_the_url_holds_placeholders_the_channel_and_the_retry_settings() -> None:
    assert entries("C17", "twilio", "u", "https://mo.example.com:8443/gate/", "https://mo2.example.com") == {
        "url": "https://USER:PASSWORD@mo.example.com:8443/gate/social/on/whatsapp/twilio/message/C17#rc=2&rp=ct,rt,5xx",
        "method": "POST",
        "fallback_url": "https://USER:PASSWORD@mo2.example.com/social/on/whatsapp/twilio/message/C17#rc=2&rp=ct,rt,5xx",
        "fallback_method": "POST",
        "user": "u",
    }


def test_a_user_with_special_characters_is_shown_encoded_and_remarked_upon() -> None:
    assert entries("C17", "twilio", "jürgen/1", PRIMARY, None)["user"] == "j%C3%BCrgen%2F1"
    assert any("percent-encoded" in text for text in remarks("jürgen/1", PRIMARY, None))
    assert not any("percent-encoded" in text for text in remarks("plain", PRIMARY, None))


def test_a_fallback_on_the_same_host_is_warned_about() -> None:
    assert any("same host" in text for text in remarks("u", PRIMARY, "https://MO.example.com:8443"))
    assert not any("same host" in text for text in remarks("u", PRIMARY, "https://mo2.example.com"))


@pytest.mark.parametrize("url", [PRIMARY, "https://h:8443/x/", "http://localhost:8080", "http://[::1]:8080"])
def test_https_is_right_and_http_on_this_machine(url: str) -> None:
    assert list(faults(url)) == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mo.example.com",
        "ftp://h",
        "https://",
        "https://h:0",
        "https://h:99999",
        "https://[",
        "https://a b",
        "https://h\n",
    ],
)
def test_what_twilio_could_not_call_is_refused(url: str) -> None:
    assert list(faults(url))


def test_all_that_is_wrong_with_a_url_is_named_at_once() -> None:
    assert len(list(faults("http://u:p@mo.example.com/?q#f"))) == 3
