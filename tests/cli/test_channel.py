"""`mo channel` against a real service."""

from __future__ import annotations

import re

import pytest
from aicc.mo.v1.channel_directory_pb2 import (
    GetChannelReplicaRequest,
    GetChannelReplicaResponse,
    PasswordUse,
    ReportPasswordUsesRequest,
    ReportPasswordUsesResponse,
)

from tests.cli.commands import Mo


def test_a_generated_password_is_shown_once_on_stdout_and_said_to_be_so(mo: Mo) -> None:
    shown = mo("channel", "create", "generated", "--user", "u", "--generate-password", "--json")
    password = shown.object["generated_password"]
    assert len(password) == 32
    assert "this once" in shown.stderr
    assert password not in shown.stderr
    assert password not in mo("channel", "show", "generated", "--json").stdout


def test_a_given_password_is_taken_from_standard_input_and_never_shown(mo: Mo) -> None:
    shown = mo("channel", "create", "given", "--user", "u", "--password-stdin", stdin="correct horse battery\n")
    assert "correct horse" not in shown.stdout + shown.stderr
    assert "generated" not in shown.stdout


@pytest.mark.parametrize("stdin", ["", "\n"])
def test_an_empty_password_is_refused(mo: Mo, stdin: str) -> None:
    shown = mo("channel", "create", "empty", "--user", "u", "--password-stdin", stdin=stdin, code=1)
    assert "empty" in shown.stderr
    mo("channel", "show", "empty", code=1)


def test_a_channel_has_the_default_destination_unless_told_otherwise(mo: Mo) -> None:
    mo.create_channel("to-default")
    mo.create_channel("to-bot", "--destination", "bot", "--number", "+14155238886", "--pause")
    mo.create_channel("to-nobody", "--no-destination", "--disabled", "--infer-message-type")
    found = {line["channel_config_id"]: line for line in mo("channel", "list", "--json").objects}
    assert found["to-default"]["destination"] == "default"
    assert found["to-default"]["state"] == "CHANNEL_STATE_ENABLED"
    assert found["to-bot"]["destination"] == "bot"
    assert found["to-bot"]["number"] == "+14155238886"
    assert found["to-bot"]["state"] == "CHANNEL_STATE_PAUSED"
    assert "destination" not in found["to-nobody"]
    assert found["to-nobody"]["state"] == "CHANNEL_STATE_DISABLED"
    assert found["to-nobody"]["infer_message_type"] is True


def test_a_list_is_a_plain_table_where_nobody_watches(mo: Mo) -> None:
    long_id = "long-" + "x" * 120
    mo.create_channel(long_id)
    header, *rows = mo("channel", "list").stdout.splitlines()
    assert header.split() == ["ID", "STATE", "PROVIDER", "NUMBER", "USER", "DESTINATION"]
    assert [long_id, "enabled", "twilio", "-", "twilio", "default"] in [row.split() for row in rows]


def test_an_update_changes_what_it_names_and_nothing_else(mo: Mo) -> None:
    mo.create_channel("updated", "--number", "+14155238886")
    changed = mo("channel", "update", "updated", "--pause", "--user", "other", "--infer-message-type", "--json").object
    assert (changed["state"], changed["webhook_user"]) == ("CHANNEL_STATE_PAUSED", "other")
    assert (changed["number"], changed["destination"]) == ("+14155238886", "default")
    cleared = mo("channel", "update", "updated", "--no-number", "--no-destination", "--enable", "--json").object
    assert (cleared["number"], cleared.get("destination"), cleared["infer_message_type"]) == ("", None, True)
    back = mo("channel", "update", "updated", "--destination", "bot", "--no-infer-message-type", "--json").object
    assert (back["destination"], back["infer_message_type"], back["webhook_user"]) == ("bot", False, "other")


def test_disabling_warns_that_messages_are_lost_and_names_the_alternative(mo: Mo) -> None:
    mo.create_channel("disabled")
    assert "--pause" in mo("channel", "update", "disabled", "--disable").stderr
    assert mo("channel", "update", "disabled", "--pause").stderr == ""


def test_an_update_that_changes_nothing_or_contradicts_itself_is_refused(mo: Mo) -> None:
    assert "Nothing to change" in mo("channel", "update", "any", code=2).stderr
    shown = mo("channel", "update", "any", "--enable", "--pause", "--number", "+1", "--no-number", code=2)
    assert "--enable and --pause" in shown.stderr
    assert "--number and --no-number" in shown.stderr


def test_an_update_on_an_old_etag_is_refused(mo: Mo) -> None:
    mo.create_channel("etag")
    etag = mo("channel", "show", "etag", "--json").object["etag"]
    mo("channel", "update", "etag", "--pause", "--etag", etag)
    shown = mo("channel", "update", "etag", "--enable", "--etag", etag, code=1)
    assert len(shown.stderr.splitlines()) == 1
    assert mo("channel", "show", "etag", "--json").object["state"] == "CHANNEL_STATE_PAUSED"


def test_every_field_that_the_service_refuses_is_a_line_without_the_value(mo: Mo) -> None:
    options = ("--user", "a:b", "--number", "0123456789", "--destination", "a b", "--generate-password")
    shown = mo("channel", "create", "bad id", *options, code=1)
    lines = shown.stderr.splitlines()
    assert len(lines) == 4
    for field in ("channel_config_id", "webhook_user", "number", "destination"):
        assert any(field in line for line in lines)
    assert "0123456789" not in shown.stderr


def test_a_channel_that_does_not_exist_or_exists_already_is_said_in_one_line(mo: Mo) -> None:
    mo.create_channel("twice")
    for arguments in (
        ("show", "nowhere"),
        ("update", "nowhere", "--pause"),
        ("delete", "nowhere", "--yes"),
        ("rotate-password", "nowhere", "--generate-password"),
        ("webhook", "nowhere", "--public-url", "https://mo.example.com"),
        ("create", "twice", "--user", "u", "--generate-password"),
    ):
        shown = mo("channel", *arguments, code=1)
        assert shown.stdout == ""
        assert len(shown.stderr.splitlines()) == 1
        assert arguments[1] in shown.stderr


def test_deleting_needs_a_confirmation_where_nobody_can_be_asked(mo: Mo) -> None:
    mo.create_channel("deleted")
    assert "--yes" in mo("channel", "delete", "deleted", code=1).stderr
    mo("channel", "show", "deleted")
    mo("channel", "delete", "deleted", "--yes")
    mo("channel", "show", "deleted", code=1)


def test_a_rotated_password_leaves_the_old_one_valid_for_the_grace_period(mo: Mo) -> None:
    mo.create_channel("rotated")
    first = mo("channel", "rotate-password", "rotated", "--generate-password", "--grace", "7d", "--json").object
    assert len(first["generated_password"]) == 32
    assert "previous_password_expire_time" in first["channel"]
    at_once = mo("channel", "rotate-password", "rotated", "--password-stdin", "--grace", "0", "--json", stdin="a" * 20)
    assert at_once.object["generated_password"] == ""
    assert "previous_password_expire_time" not in at_once.object["channel"]


def test_each_password_is_shown_with_its_last_use(mo: Mo) -> None:
    mo.create_channel("used")
    before = mo.call(
        "ChannelDirectory/GetChannelReplica",
        GetChannelReplicaRequest(channel_config_id="used"),
        GetChannelReplicaResponse.FromString,
    )
    use = PasswordUse(channel_config_id="used", password_id=before.channel.password_hashes[0].password_id)
    use.use_time.FromJsonString("2026-11-22T10:00:00Z")
    report = ReportPasswordUsesRequest(uses=[use])
    mo.call("ChannelDirectory/ReportPasswordUses", report, ReportPasswordUsesResponse.FromString)
    assert re.search(r"password last used +2026-11-22T10:00", mo("channel", "show", "used").stdout)

    mo("channel", "rotate-password", "used", "--generate-password")

    shown = mo("channel", "show", "used")
    assert re.search(r"(?<!previous )password last used +not yet", shown.stdout)
    assert re.search(r"previous password last used +2026-11-22T10:00", shown.stdout)


@pytest.mark.parametrize("password", ["a tiny word", "shown-as-id-too"])
def test_a_chosen_password_that_can_be_guessed_is_refused_with_the_reason(mo: Mo, password: str) -> None:
    create = ("channel", "create", "shown-as-id-too", "--user", "u", "--password-stdin")
    refused = mo(*create, stdin=password, code=1)
    assert "password: must" in refused.stderr
    assert password not in refused.stderr.replace("mo channel create shown-as-id-too", "")


def test_the_webhook_is_told_for_a_channel_that_exists_without_any_password(mo: Mo) -> None:
    mo.create_channel("hooked")
    options = ("--public-url", "https://mo.example.com", "--fallback-url", "https://mo2.example.com")
    shown = mo("channel", "webhook", "hooked", *options, "--json")
    assert shown.object["url"].startswith("https://USER:PASSWORD@mo.example.com/")
    assert shown.object["fallback_url"].endswith("/message/hooked#rc=2&rp=ct,rt,5xx")
    assert "recognised as one" in shown.stderr


def test_all_faults_of_the_public_urls_are_named_at_once(mo: Mo) -> None:
    shown = mo("channel", "webhook", "any", "--public-url", "http://h", "--fallback-url", "https://h?q", code=2)
    assert "--public-url: it must be https" in shown.stderr
    assert "--fallback-url: leave out" in shown.stderr
