"""What the queues carry, held to the schemas in docs/schemas."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from shared.manifest import Code, Finding, Rules
from shared.messages import (
    Channel,
    Message,
    Problem,
    action_needed,
    action_resolved,
    manifest_duplicate,
    manifest_rejected,
    upload_refused,
    upload_submitted,
)
from shared.partner_center import RequestRefused
from shared.partner_center.errors import LONGEST_DESCRIPTION, ServiceError
from shared.plan import Part, Plan
from shared.planning import plan_refusal
from tests.schemas import SCHEMAS, checked
from tests.unit.builders import CUSTOMER, HASH, NOW, accepted, destination, draft, keys, upload


def check(message: Message) -> dict[str, Any]:
    return checked(message.text)


def planned(data: str | bytes, name: str = "contoso/März.csv", per_request: int = 500, **to: Any) -> Plan:
    with draft(data, destination(**to), upload(name), per_request, bad_rows_allowed=20) as made:
        return made.plan


def refused(description: str = "Invalid request") -> RequestRefused:
    return RequestRefused(ServiceError(400, "3000", description), accepted().request_id, accepted().correlation_id)


def submitted(plan: Plan, part: Part | None = None) -> Message:
    return upload_submitted(plan, part or plan.parts[0], "Standard", accepted(), NOW)


def not_taken(plan: Plan) -> Message:
    return upload_refused(plan, plan.parts[0], "Standard", refused(), Code.REFUSED_BY_PARTNER_CENTER, NOW)


def rejected(plan: Plan) -> Message:
    return manifest_rejected(planned(keys(0), plan.upload.name), NOW)


def duplicate(plan: Plan) -> Message:
    return manifest_duplicate(plan, planned(keys(1), "contoso/first.csv"), [("Standard", accepted().location)], NOW)


PROBLEM = Problem("mfa-required", "", "page", "Consent again.", NOW)
RECORD = "https://drop.blob.core.windows.net/intake-ledger/problems/mfa-required"


def alert(plan: Plan) -> Message:
    return action_needed(PROBLEM, RECORD, [plan], 1, NOW)


EVERY = pytest.mark.parametrize("make", [submitted, not_taken, rejected, duplicate])


@EVERY
def test_message_is_what_its_schema_says(make: Callable[[Plan], Message]) -> None:
    """Every message is a CloudEvent that its schema allows, and names the upload and the report."""
    plan = planned(keys(1))
    event = check(make(plan))
    assert event["data"]["manifest"]["name"] == "contoso/März.csv"
    assert event["source"] == "https://drop.blob.core.windows.net/manifests/contoso/M%C3%A4rz.csv"
    assert event["data"]["report"].endswith("report.json")


@EVERY
def test_same_input_gives_the_same_message(make: Callable[[Plan], Message]) -> None:
    """A message made again is the same, byte for byte; another upload's has another id."""
    first, again, other = (make(planned(keys(1), name)) for name in ("contoso/a.csv", "contoso/a.csv", "contoso/b.csv"))
    assert first == again
    assert json.loads(first.text)["id"] != json.loads(other.text)["id"]


@EVERY
def test_longest_blob_name_fits(make: Callable[[Plan], Message]) -> None:
    """A path of 1,024 characters that each take three bytes, or nine in an address, leaves room enough."""
    for char in "é東😀":
        check(make(planned(keys(1), "contoso/" + char * (1_020 // len(char.encode("utf-16-le")) * 2 - 8))))


@EVERY
def test_schema_misses_what_is_missing(make: Callable[[Plan], Message]) -> None:
    """The schemas are strict: each member of an event, and of its data, is required."""
    event = check(make(planned(keys(1))))
    for holder in (event, event["data"], event["data"]["manifest"]):
        for member in list(holder):
            value = holder.pop(member)
            with pytest.raises((ValidationError, KeyError)):
                check(Message(Channel.RESULT, json.dumps(event)))
            holder[member] = value
            holder["added later"] = 1
    check(Message(Channel.RESULT, json.dumps(event)))


def test_each_message_has_its_channel() -> None:
    """Results, rejections and alerts go to queues of their own."""
    plan = planned(keys(1))
    channels = [make(plan).channel for make in (submitted, duplicate, rejected, not_taken, alert)]
    assert channels == [Channel.RESULT, Channel.RESULT, Channel.REJECTION, Channel.REJECTION, Channel.ALERT]
    assert action_resolved(PROBLEM, RECORD, NOW).channel is Channel.ALERT


def test_submitted_carries_location_and_tracking_uri() -> None:
    """The consumer reads the header verbatim, where to poll, and which of the manifest's requests this was."""
    plan = planned(keys(*range(1, 8)), per_request=3)
    event = check(upload_submitted(plan, plan.parts[2], "STANDARD", accepted(), NOW))
    data = event["data"]
    assert data["trackingUri"] == f"https://api.partnercenter.microsoft.com/v1{data['location']}"
    assert (data["part"], data["parts"], data["deviceCount"]) == (3, 3, 1)
    assert (event["subject"], data["batchId"]) == (f"{CUSTOMER}/STANDARD", "STANDARD")
    assert len({check(submitted(plan, part))["id"] for part in plan.parts}) == 3


def test_submitted_without_location() -> None:
    """Where no Location came, both are null."""
    plan = planned(keys(1))
    data = check(upload_submitted(plan, plan.parts[0], "Standard", accepted(None), NOW))["data"]
    assert (data["location"], data["trackingUri"]) == (None, None)


def test_refused_carries_the_service_s_words() -> None:
    """A refused request is told with Partner Center's code and words, and the rows it held."""
    data = check(not_taken(planned(keys(*range(1, 10), 0))))["data"]
    assert (data["serviceCode"], data["serviceMessage"], data["rows"]) == ("3000", "Invalid request", [[2, 10]])


@pytest.mark.parametrize("char", ["é", "東", "\x01", "😀", '"'])
def test_refused_fits_whatever_the_service_says(char: str) -> None:
    """The longest description and a request of scattered rows leave room enough."""
    scattered = "Product ID\n" + "".join(f"{n}\n\n" for n in range(500))
    plan = planned(scattered, "contoso/" + "東" * 1_016, default_batch="東" * 256)
    error = refused(char * LONGEST_DESCRIPTION)
    check(upload_refused(plan, plan.parts[0], "東" * 256, error, Code.REFUSED_BY_PARTNER_CENTER, NOW))


def test_service_s_words_are_told_without_a_hash() -> None:
    """Where Partner Center quotes a hardware hash, no message repeats it."""
    body = {"code": "3000", "description": f"HardwareHash {HASH[:400]} is invalid"}
    error = ServiceError.of(httpx.Response(400, json=body))
    why = RequestRefused(error, accepted().request_id, accepted().correlation_id)
    plan = planned(keys(1))
    message = upload_refused(plan, plan.parts[0], "A", why, Code.REFUSED_BY_PARTNER_CENTER, NOW)
    assert HASH[:40] not in message.text


def test_rejection_names_reason_and_first_findings() -> None:
    """The reason is the shared code, and at most ten findings come along."""
    data = check(manifest_rejected(planned(keys(*[0] * 1_000)), NOW))["data"]
    assert (data["reason"], data["errors"], len(data["firstFindings"])) == ("unidentified-device", 1_000, 10)
    assert data["customerId"] == CUSTOMER


def test_rejection_of_what_was_not_read() -> None:
    """A file in nobody's folder is rejected without customer or digest, under its own path."""
    with plan_refusal(upload("list.csv"), Finding(Code.UNKNOWN_CUSTOMER, "Nobody's.")) as made:
        event = check(manifest_rejected(made.plan, NOW))
    assert (event["data"]["customerId"], event["data"]["manifest"]["sha256"]) == (None, None)
    assert event["subject"] == "list.csv"


@pytest.mark.parametrize("char", ["\x84", "\x7f", "\n", "\ufffe"])
def test_subject_is_text_that_cloudevents_allows(char: str) -> None:
    """A folder whose name was decoded wrongly is nobody's, and holds characters that readers of CloudEvents refuse."""
    with plan_refusal(upload(f"Ã{char}/list.csv"), Finding(Code.UNKNOWN_CUSTOMER, "Nobody's.")) as made:
        event = check(manifest_rejected(made.plan, NOW))
    assert (event["subject"], event["data"]["manifest"]["name"]) == ("Ã\ufffd/list.csv", f"Ã{char}/list.csv")


@pytest.mark.parametrize(
    ("data", "to"),
    [
        ("東" * 60_000, {}),
        ("Product ID," + ",".join("東" * 60 for _ in range(500)) + "\n" + "\u200b\n" * 1_000, {}),
        ("Product ID,Group Tag\n" + "1,東\n" * 20, {"batchIds": ["東" * 60 + str(n) for n in range(200)]}),
    ],
    ids=["no-columns", "many-columns", "many-batches-allowed"],
)
def test_rejection_fits_whatever_was_found(data: str, to: dict[str, Any]) -> None:
    """However long its findings, a rejection fits on a queue."""
    check(manifest_rejected(planned(data, "contoso/" + "東" * 1_016, **to), NOW))


@pytest.mark.parametrize("batch", ["A", "b" * 256, "東" * 256, '"' * 256], ids=["short", "long", "cjk", "escaped"])
@pytest.mark.parametrize("location", [accepted().location, "/" + "x" * 2_047, None], ids=["usual", "longest", "none"])
def test_duplicate_of_many_requests_fits(batch: str, location: str | None) -> None:
    """Hundreds of locations are counted, and as many told as there is room for."""
    first = planned(keys(2), "contoso/" + "東" * 1_016)
    locations = [(batch, location)] * Rules().max_batches * 6
    data = check(manifest_duplicate(planned(keys(1), first.upload.name), first, locations, NOW))["data"]
    assert data["locationCount"] == 300
    assert data["locations"][0] == {"batchId": batch, "location": location}
    assert data["duplicateOf"]["id"] == first.upload.id


def test_alert_says_what_to_do() -> None:
    """An operator reads the problem, the advice and what waits; said again later it is another message."""
    plan = planned(keys(1))
    event = check(alert(plan))
    data = event["data"]
    assert (data["problem"], data["severity"], data["advice"]) == ("mfa-required", "page", "Consent again.")
    assert ([m["id"] for m in data["waiting"]], data["waitingCount"]) == ([plan.upload.id], 1)
    assert (event["source"], event["subject"]) == (RECORD, "mfa-required")
    later = action_needed(PROBLEM, RECORD, [plan], 1, NOW.replace(day=23))
    assert check(later)["id"] != event["id"]


def test_alert_is_taken_back() -> None:
    """It names the same problem since the same moment; taken back by two, it is two messages: no id has two texts."""
    mine = Problem("partner-center-forbidden", CUSTOMER, "page", "Give it the role.", NOW)
    said = check(action_needed(mine, RECORD, [], 0, NOW))
    over = check(action_resolved(mine, RECORD, NOW.replace(day=24)))
    assert said["id"] != over["id"]
    assert {m: over["data"][m] for m in ("problem", "about", "since")} == {
        m: said["data"][m] for m in ("problem", "about", "since")
    }
    assert (over["data"]["about"], over["subject"]) == (CUSTOMER, f"partner-center-forbidden/{CUSTOMER}")
    assert over["id"] != check(action_resolved(mine, RECORD, NOW.replace(day=25)))["id"]


@pytest.mark.parametrize("advice", ["Consent again.", "東" * 20_000, "\x01" * 20_000], ids=["short", "long", "escaped"])
def test_alert_of_many_manifests_fits(advice: str) -> None:
    """However many wait, however long their names, and whatever a broken server or setting added to the advice."""
    plan = planned(keys(1), "contoso/" + "東" * 1_016)
    data = check(action_needed(replace(PROBLEM, advice=advice), RECORD, [plan] * 50, 12_345, NOW))["data"]
    assert data["waitingCount"] == 12_345
    assert 1 <= len(data["waiting"]) < 50


@pytest.mark.parametrize("make", [alert, lambda _: action_resolved(PROBLEM, RECORD, NOW)], ids=["needed", "resolved"])
def test_alert_s_schema_misses_what_is_missing(make: Callable[[Plan], Message]) -> None:
    """Each member of an alert is required, too, and each of a manifest that waits."""
    event = check(make(planned(keys(1))))
    for holder in (event, event["data"], *event["data"].get("waiting", [])):
        for member in list(holder):
            value = holder.pop(member)
            with pytest.raises((ValidationError, KeyError)):
                check(Message(Channel.ALERT, json.dumps(event)))
            holder[member] = value


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_schemas_are_schemas(name: str) -> None:
    """Each schema is one of its draft, and describes each of its properties to whoever consumes it."""
    Draft202012Validator.check_schema(SCHEMAS[name])
    of_data = SCHEMAS[name]["properties"]["data"].get("properties", {})
    assert of_data or name == "envelope.schema.json"
    assert all("description" in p or "$ref" in p for p in of_data.values())
