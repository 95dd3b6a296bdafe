"""The main job, from the blob to the queue message, on real clients over real sockets."""

import base64
import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from azure.storage.blob import ContentSettings

from local.simulators.faults import accept_then_reset, respond, slow
from shared.plan import Upload
from tests.integration.conftest import Corner

SUBMITTED, DUPLICATE = "io.autopilotdrop.upload.submitted", "io.autopilotdrop.manifest.duplicate"
HEADER = "Device Serial Number,Windows Product ID,Hardware Hash,Manufacturer name,Device model,Group Tag\n"


def tuples(count: int, tag: str = "", start: int = 0) -> bytes:
    """A CSV of `count` devices known by serial, manufacturer and model."""
    rows = (f"SN-{n:05d},,,Contoso Ltd,Slate {n % 7},{tag}\n" for n in range(start, start + count))
    return (HEADER + "".join(rows)).encode()


def serials(devices: list[dict[str, Any]]) -> list[str]:
    return [d["SerialNumber"] for d in devices]


def test_the_seeds_request_is_sent_field_by_field(corner: Corner, samples: Path) -> None:
    """A manifest in the API's own JSON becomes the documented request, and its Location a message, byte for byte."""
    manifest = (samples / "create_batch.request.json").read_bytes()
    corner.deliver("seed.json", manifest)

    (post,) = corner.posts
    assert post.path == f"/v1/customers/{corner.customer}/deviceBatches"
    assert post.json == json.loads(manifest)
    documented = (samples / "create_batch.request.http").read_text().split("\n{")[0].splitlines()[1:]
    for line in documented:
        name, value = line.split(": ", 1)
        if name in ("Accept", "X-Locale", "Content-Type"):
            assert post.headers[name] == value
    assert post.headers["Content-Length"] == str(len(post.body))
    assert post.headers["MS-PartnerCenter-Application"] == "Autopilot Drop"
    assert post.headers["MS-RequestId"] != post.headers["MS-CorrelationId"]
    assert post.bearer in corner.cloud.entra.issued_tokens

    (event,) = corner.results
    assert event["type"] == "io.autopilotdrop.upload.submitted"
    assert event["data"]["location"] == post.location
    assert event["data"]["trackingUri"] == f"{corner.cloud.partner_center.url}/v1{post.location}"
    assert event["data"]["requestId"] == post.headers["MS-RequestId"]
    assert event["data"]["batchId"] == "SDKTestDeviceBatch"
    assert event["subject"] == f"{corner.customer}/SDKTestDeviceBatch"


@pytest.mark.parametrize("sample", ["collector_utf16le.csv", "collector_partner_utf16le.csv"])
def test_a_collectors_utf16_file_arrives_hash_for_hash(corner: Corner, samples: Path, sample: str) -> None:
    """What Windows PowerShell writes reaches Partner Center with every value as it was."""
    text = (samples / sample).read_text("utf-16")
    corner.deliver(sample, (samples / sample).read_bytes())

    expected = [line.split(",") for line in text.splitlines()[1:] if line]
    assert [[d["SerialNumber"], d["HardwareHash"]] for d in corner.batches["Standard"]] == [
        [fields[0], fields[2]] for fields in expected
    ]


def test_every_message_is_base64_and_never_expires(corner: Corner) -> None:
    """A consumer that was away for a month still finds its messages."""
    corner.deliver("a.csv", tuples(1))

    raw = corner.cloud.queue_service().get_queue_client(corner.queues["RESULT_QUEUE"]).peek_messages()[0]
    assert json.loads(base64.b64decode(raw.content))["specversion"] == "1.0"
    assert raw.expires_on.year > datetime.now(UTC).year + 100


def test_a_large_manifest_goes_in_several_requests_one_after_the_other(corner: Corner) -> None:
    """1,200 devices are one creation and two appends; each device arrives once, and each request is told."""
    corner.deliver("many.csv", tuples(1200))

    assert [p.path.rsplit("/", 1)[1] for p in corner.posts] == ["deviceBatches", "devices", "devices"]
    assert serials(corner.batches["Standard"]) == [f"SN-{n:05d}" for n in range(1200)]
    assert [(e["data"]["part"], e["data"]["parts"], e["data"]["deviceCount"]) for e in corner.results] == [
        (1, 3, 500),
        (2, 3, 500),
        (3, 3, 200),
    ]
    assert [e["data"]["location"] for e in corner.results] == [p.location for p in corner.posts]


def test_a_batch_the_customer_has_is_appended_to_in_its_own_spelling(corner: Corner) -> None:
    """Batch ids are compared without case, and Partner Center's spelling is used."""
    corner.cloud.partner_center.add_batch(corner.customer, "STANDARD")
    corner.deliver("a.csv", tuples(2))

    (post,) = corner.posts
    assert post.path.endswith("/deviceBatches/STANDARD/devices")
    assert len(corner.batches["STANDARD"]) == 2
    assert corner.results[0]["data"]["batchId"] == "STANDARD"


def test_a_refused_request_names_the_batch_as_partner_center_spells_it(corner: Corner) -> None:
    """As an accepted one does: who reads both must not take them for two batches."""
    corner.cloud.partner_center.add_batch(corner.customer, "STANDARD")
    corner.cloud.partner_center.faults.add(respond(400, {"code": "3000"}, on=f"POST */{corner.customer}/*"))
    corner.deliver("a.csv", tuples(2))

    (refused,) = corner.rejections
    assert (refused["subject"], refused["data"]["batchId"]) == (f"{corner.customer}/STANDARD", "STANDARD")


def test_a_batch_that_appears_meanwhile_is_appended_to(corner: Corner) -> None:
    """Where another manifest creates the batch between our list and our creation, its 409 becomes an append."""
    corner.cloud.partner_center.add_batch(corner.customer, "standard")
    corner.cloud.partner_center.faults.add(
        respond(200, {"totalCount": 0, "items": []}, on=f"GET */{corner.customer}/deviceBatches")
    )
    corner.deliver("a.csv", tuples(2))

    assert [(p.status, p.path.rsplit("/", 1)[1]) for p in corner.posts] == [(409, "deviceBatches"), (202, "devices")]
    assert serials(corner.batches["standard"]) == ["SN-00000", "SN-00001"]
    assert corner.results[0]["data"]["batchId"] == "standard"
    first, second = (p.headers["MS-RequestId"] for p in corner.posts)
    assert first != second


def test_rows_with_different_tags_go_to_different_batches(corner: Corner) -> None:
    """The Group Tag column decides row by row."""
    rows = "A,,,Make,Model,Kiosk\nB,,,Make,Model,\nC,,,Make,Model,kiosk\n"
    corner.deliver("tags.csv", (HEADER + rows).encode())

    assert {name: serials(devices) for name, devices in corner.batches.items()} == {
        "Kiosk": ["A", "C"],
        "Standard": ["B"],
    }


def test_a_second_delivery_posts_and_says_nothing(corner: Corner) -> None:
    """Event Grid delivers at least once; Partner Center and the queue see it once."""
    path = corner.deliver("a.csv", tuples(3))
    before = corner.texts("RESULT_QUEUE"), len(corner.calls)
    for _ in range(3):
        corner.intake.receive(path)

    assert (corner.texts("RESULT_QUEUE"), len(corner.calls)) == before


def test_the_same_rejected_upload_is_answered_once(corner: Corner) -> None:
    """Also a rejection is said once."""
    path = corner.deliver("a.csv", b"nothing,that,we,know\n1,2,3,4\n")
    corner.intake.receive(path)

    assert len(corner.rejections) == 1


def test_the_same_content_under_another_name_is_a_duplicate(corner: Corner) -> None:
    """Nothing is posted; its sender and the consumer learn which upload sent it, and to what Location."""
    corner.deliver("first.csv", tuples(3))
    second = corner.deliver("second.csv", tuples(3))

    assert len(corner.posts) == 1
    submitted, duplicate = corner.results
    assert duplicate["type"] == "io.autopilotdrop.manifest.duplicate"
    assert duplicate["data"]["duplicateOf"]["id"] == submitted["data"]["manifest"]["id"]
    assert [place["location"] for place in duplicate["data"]["locations"]] == [corner.posts[0].location]
    report = corner.report(second)
    assert report["verdict"] == "duplicate"
    assert report["duplicateOf"] == submitted["data"]["manifest"]["id"]


def test_a_duplicate_ends_when_the_upload_that_sends_its_content_has(corner: Corner) -> None:
    """Both are told at once; until the first has arrived, the second's sender reads `waiting`."""
    first_waits(corner)
    path = corner.deliver("second.csv", tuples(3))
    report = corner.report(path)
    assert (report["state"], report["verdict"]) == ("waiting", "duplicate")
    assert [(e["type"], e["data"]["locations"]) for e in corner.results] == [(DUPLICATE, [])]

    corner.wake()
    corner.wake()
    assert (corner.report(path)["state"], corner.report(path)["verdict"]) == ("finished", "duplicate")
    assert sorted(e["type"] for e in corner.results) == [DUPLICATE, SUBMITTED]
    assert len(corner.posts) == 1


def test_a_duplicate_is_sent_where_the_first_comes_to_nothing(corner: Corner) -> None:
    """Partner Center refused the first after the second was called its duplicate: the content is not lost for that."""
    first = first_waits(corner)
    second = corner.deliver("second.csv", tuples(3))
    refusal = respond(400, {"code": "3000", "description": "no"}, on=f"POST */{corner.customer}/*")
    corner.cloud.partner_center.faults.add(refusal)
    corner.wake()
    corner.wake()

    assert corner.report(first)["verdict"] == "rejected"
    report = corner.report(second)
    assert (report["state"], report["verdict"]) == ("submitted", "accepted")
    assert "duplicateOf" not in report
    assert [e["type"] for e in corner.results] == [DUPLICATE, SUBMITTED]
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]
    assert not corner.wake_ups()


def test_a_duplicate_s_report_names_the_upload_that_sent_its_content(corner: Corner) -> None:
    """The first was refused, and one of its two duplicates is sent: it is that one's that the other is now."""
    first = first_waits(corner)
    paths = [corner.deliver(f"{n}.csv", tuples(3)) for n in range(2)]
    refusal = respond(400, {"code": "3000", "description": "no"}, on=f"POST */{corner.customer}/*")
    corner.cloud.partner_center.faults.add(refusal)
    state = corner.intake.ledger.state(corner.key(first))
    corner.intake.resume(json.dumps({"key": corner.key(first), "nonce": state.nonce}))
    corner.wake()

    sent, duplicate = sorted(map(corner.report, paths), key=lambda report: report["verdict"])
    assert (sent["state"], sent["verdict"]) == ("submitted", "accepted")
    assert (duplicate["state"], duplicate["verdict"]) == ("finished", "duplicate")
    assert duplicate["duplicateOf"] == sent["manifest"]["id"]
    assert [e["type"] for e in corner.results] == [DUPLICATE, DUPLICATE, SUBMITTED]


def first_waits(corner: Corner) -> str:
    """A manifest that is parked for an outage."""
    corner.cloud.partner_center.faults.add(respond(503, on=f"GET */{corner.customer}/deviceBatches", times=3))
    return corner.deliver("first.csv", tuples(3))


def test_the_same_content_is_sent_again_where_its_sender_insists(corner: Corner) -> None:
    """Blob metadata `resubmit=true` makes an upload like any other."""
    corner.deliver("first.csv", tuples(3))
    corner.deliver("second.csv", tuples(3), {"resubmit": "true"})

    assert len(corner.posts) == 2


def test_what_was_begun_is_ended_although_its_sender_insists_meanwhile(new_corner: Callable[..., Corner]) -> None:
    """One of two requests was sent when the same content came with `resubmit=true`: each sends all of its own."""
    corner = new_corner(DEVICES_PER_REQUEST="2")
    outage = respond(503, on=f"POST */{corner.customer}/deviceBatches/Standard/devices", times=3)
    corner.cloud.partner_center.faults.add(outage)
    first = corner.deliver("first.csv", tuples(3))
    second = corner.deliver("second.csv", tuples(3), {"resubmit": "true"})
    assert corner.wake() == 1

    assert [corner.report(path)["state"] for path in (first, second)] == ["submitted"] * 2
    assert [e["type"] for e in corner.results] == [SUBMITTED] * 4


def test_content_whose_first_record_was_cleared_away_is_sent(corner: Corner) -> None:
    """Nobody knows any more what became of it."""
    first = corner.deliver("first.csv", tuples(3))
    corner.cloud.blob_service().get_blob_client("intake-ledger", f"uploads/{corner.key(first)}").delete_blob()
    corner.deliver("second.csv", tuples(3))

    assert [e["type"] for e in corner.results] == [SUBMITTED, SUBMITTED]


def test_the_same_content_for_another_batch_is_no_duplicate(corner: Corner) -> None:
    """Content counts together with the batches it goes to."""
    corner.deliver("first.csv", tuples(3))
    corner.deliver("batch=Kiosk/first.csv", tuples(3))

    assert set(corner.batches) == {"Standard", "Kiosk"}


def test_a_corrected_file_of_the_same_name_is_a_new_upload(corner: Corner) -> None:
    """The record is of the upload and not of the name."""
    path = corner.deliver("a.csv", tuples(1))
    corner.deliver("a.csv", tuples(1, start=5))

    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00005"]
    assert len([f for f in corner.report_files(path) if f.endswith("report.json")]) == 3  # each its own, and the latest


def test_dry_run_does_everything_but_the_post(new_corner: Callable[..., Corner]) -> None:
    """The report says what would have been sent; Partner Center is not called."""
    corner = new_corner()
    corner.settings["CUSTOMERS"] = json.dumps(
        {corner.folder: {"customerId": corner.customer, "batchId": "Standard", "dryRun": True}}
    )
    path = corner.deliver("a.csv", tuples(3))

    assert not corner.calls
    assert not corner.results
    report = corner.report(path)
    assert (report["state"], report["verdict"], report["devices"]) == ("finished", "dry-run", 3)
    assert report["batches"] == [{"batchId": "Standard", "devices": 3, "locations": []}]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("broken.json", b'{"BatchId": "A", "Devices": [{"SerialNumber": "1"', "not-a-manifest"),
        ("other.json", b'{"orders": [1, 2, 3]}', "not-a-manifest"),
        ("columns.csv", b"colour,size\nred,9\n", "unknown-columns"),
        ("nobody.csv", HEADER.encode() + b"SN-1,,,,,\n", "unidentified-device"),
        ("binary.csv", bytes(range(256)) * 20, "unreadable-text"),
        ("book.csv", b"PK\x03\x04" + bytes(100), "not-a-manifest"),
        ("blank.csv", b"\r\n\r\n\r\n", "empty-manifest"),
        ("header.csv", HEADER.encode(), "empty-manifest"),
        ("mismatch.json", b'{"CustomerId": "x", "Devices": [{"ProductKey": "1"}]}', "customer-mismatch"),
    ],
)
def test_bad_input_gets_a_rejection_and_a_report(corner: Corner, name: str, data: bytes, reason: str) -> None:
    """What only its sender can mend goes back to its sender, in words, and nothing of it is sent."""
    path = corner.deliver(name, data)

    assert not corner.posts
    (event,) = corner.rejections
    assert event["type"] == "io.autopilotdrop.manifest.rejected"
    assert event["data"]["reason"] == reason
    assert event["data"]["firstFindings"]
    report = corner.report(path)
    assert (report["state"], report["verdict"], report["reason"]["code"]) == ("finished", "rejected", reason)
    assert reason in report["findingCounts"]
    assert not any(f.endswith("resend.csv") for f in corner.report_files(path))


def test_a_file_without_any_batch_is_told_the_ways_to_name_one(new_corner: Callable[..., Corner]) -> None:
    """A group tag decides a device's profiles: it is never invented."""
    corner = new_corner()
    corner.settings["CUSTOMERS"] = json.dumps({corner.folder: corner.customer})
    corner.deliver("a.csv", tuples(2))

    (event,) = corner.rejections
    assert event["data"]["reason"] == "missing-batch-id"
    assert "Group Tag column" in event["data"]["firstFindings"][0]["message"]


@pytest.mark.parametrize(
    "data",
    [gzip.compress(tuples(2) + (b"," * 100_000 + b"\n") * 50, compresslevel=0), tuples(2)],
    ids=["an archive of several chunks", "no archive at all"],
)
def test_what_a_sender_declares_of_the_encoding_is_not_asked(corner: Corner, data: bytes) -> None:
    """The storage client would inflate each chunk by itself, without a limit, and fail for ever at the second."""
    blob = corner.cloud.blob_service().get_blob_client("manifests", path := corner.drop("a.csv", b""))
    blob.upload_blob(data, overwrite=True, content_settings=ContentSettings(content_encoding="gzip"))
    corner.intake.receive(path)

    (message,) = corner.results
    assert message["data"]["deviceCount"] == 2


@pytest.mark.parametrize("path", ["lost-{}.csv", "nobody-{}/a.csv"])
def test_a_file_in_nobodys_folder_is_answered(corner: Corner, path: str) -> None:
    """A file in the wrong place must be answered, or its sender waits for ever."""
    path = path.format(corner.customer)
    corner.cloud.drop(path, tuples(1))
    corner.intake.receive(path)

    (event,) = corner.rejections
    assert event["data"]["reason"] == "unknown-customer"
    assert corner.report(path)["verdict"] == "rejected"


def test_a_file_that_is_too_large_is_refused_unread(new_corner: Callable[..., Corner]) -> None:
    """One supplier must not starve the partner's throttle."""
    corner = new_corner(MAX_MANIFEST_BYTES="1000")
    corner.deliver("a.csv", tuples(100))

    (event,) = corner.rejections
    assert event["data"]["reason"] == "manifest-too-large"
    assert event["data"]["manifest"]["sha256"] is None


def test_an_empty_blob_is_still_being_written_for_an_hour(corner: Corner) -> None:
    """It is ignored at first, and rejected when nothing has come of it."""
    path = corner.deliver("a.csv", b"")
    assert not corner.rejections

    later = replace(corner.intake, clock=lambda: datetime.now(UTC) + timedelta(minutes=61))
    later.receive(path)
    assert corner.rejections[0]["data"]["reason"] == "empty-manifest"


@pytest.mark.parametrize("name", [".hidden", "~$a.csv", "a.csv.filepart", "a.csv.report.json", "Thumbs.db", "a.MD5"])
def test_what_is_no_manifest_is_not_answered(corner: Corner, name: str) -> None:
    """Tools' temporary files and our own reports are nobody's manifests."""
    corner.deliver(name, b"whatever")

    assert not corner.rejections
    assert not corner.calls


def test_a_blob_that_is_gone_ends_quietly(corner: Corner) -> None:
    """An event may come after its blob was deleted; a failure would only be repeated."""
    corner.intake.receive(f"{corner.folder}/never.csv")

    assert not corner.rejections


@pytest.mark.parametrize(
    ("name", "data", "metadata", "batch"),
    [
        ("a.csv", tuples(9, "Kiosk") + b"SN-BAD,,,,,Kiosk\n", None, "Kiosk"),
        ("batch=Kiosk/a.csv", tuples(9) + b"SN-BAD,,,,,\n", {"batchid": "Other"}, "Kiosk"),
        ("a.csv", tuples(9) + b"SN-BAD,,,,,\n", {"batchid": "Kiosk"}, "Kiosk"),
        ("a.csv", tuples(9) + b"SN-BAD,,,,,\n", None, "Standard"),
        (
            "batch=Other/a.json",
            json.dumps(
                {
                    "BatchId": "Kiosk",
                    "Devices": [{"SerialNumber": f"SN-{n:05d}", "ProductKey": f"{n:013d}"} for n in range(1, 10)]
                    + [{"SerialNumber": "SN-BAD", "GroupTag": "Other"}],
                }
            ).encode(),
            None,
            "Kiosk",
        ),
    ],
    ids=["tag", "path", "metadata", "default", "document"],
)
def test_some_bad_rows_are_left_out_and_come_back_to_be_corrected(
    corner: Corner, name: str, data: bytes, metadata: dict[str, str] | None, batch: str
) -> None:
    """The good rows go; the bad ones lie in a file that, corrected and dropped, goes into the same batch."""
    path = corner.deliver(name, data, metadata)

    assert [len(devices) for devices in corner.batches.values()] == [9]
    report = corner.report(path)
    assert (report["verdict"], report["rows"], report["devices"]) == ("accepted-with-errors", 10, 9)
    assert [f["code"] for f in report["findings"]] == ["unidentified-device"]

    (resend,) = (f for f in corner.report_files(path) if f.endswith("resend.csv"))
    rows = corner.report_file(resend)
    assert rows.decode("utf-8-sig").splitlines() == [HEADER.strip(), f"SN-BAD,,,,,{batch}"]
    again = resend.rpartition("/")[2]
    assert corner.report(corner.deliver(again, rows))["verdict"] == "rejected"
    path = corner.deliver(again, rows.replace(b"SN-BAD,,,,,", b"SN-BAD,,,Contoso Ltd,Slate,"))
    assert corner.report(path)["verdict"] == "accepted"
    assert {b: serials(devices)[-1] for b, devices in corner.batches.items()} == {batch: "SN-BAD"}


def test_the_receipt_is_there_before_a_token_is_asked_for(corner: Corner) -> None:
    """A supplier is answered although the partner's credentials are dead, and hears nothing of that."""
    corner.cloud.entra.refuse(700082)
    path = corner.deliver("a.csv", tuples(2))

    report = corner.report(path)
    assert (report["state"], report["verdict"]) == ("waiting", "accepted")
    assert "token" not in json.dumps(report).casefold()
    assert not corner.rejections


def test_a_dead_refresh_token_parks_the_work_and_wakes_the_operator(corner: Corner) -> None:
    """A good manifest is never rejected for our own failure; once mended it goes on by itself."""
    corner.forget_problem("consent-needed")
    corner.cloud.entra.refuse(700082)
    path = corner.deliver("a.csv", tuples(2))
    corner.deliver("b.csv", tuples(2, start=8))
    corner.cloud.entra.refuse(None)

    (alert,) = corner.alerts
    assert alert["data"]["problem"] == "consent-needed"
    assert "90 days" in alert["data"]["advice"]
    assert corner.wake() == 2
    assert len(corner.batches["Standard"]) == 4
    assert corner.report(path)["state"] == "submitted"


def test_what_waited_before_its_first_request_asks_which_batches_there_are(corner: Corner) -> None:
    """Nothing of it can have arrived unheard: a batch that the customer has is not created to see."""
    corner.cloud.partner_center.add_batch(corner.customer, "Standard")
    first_waits(corner)
    assert corner.wake() == 1

    assert [(p.status, p.path.rsplit("/", 1)[1]) for p in corner.posts] == [(202, "devices")]


def test_a_stale_wake_up_does_nothing(corner: Corner) -> None:
    """Only the wake-up that counts goes on; others are dropped."""
    corner.cloud.partner_center.faults.add(
        respond(429, headers={"Retry-After": "600"}, on=f"GET */{corner.customer}/*", times=2)
    )
    corner.deliver("a.csv", tuples(2))
    (wake_up,) = corner.wake_ups()
    corner.intake.resume(wake_up)
    corner.intake.resume(wake_up)  # it is parked anew, with another
    corner.intake.resume("no json")
    assert len(corner.calls) == 2

    assert corner.wake() == 1
    corner.intake.resume(wake_up)
    assert len(corner.posts) == 1


def test_wake_ups_do_not_multiply(lone: Corner) -> None:
    """A delivery, or a sweep, that finds one to come adds none, and does nothing."""
    on = f"GET */{lone.customer}/*"
    lone.cloud.partner_center.faults.add(respond(429, headers={"Retry-After": "600"}, on=on))
    path = lone.deliver("a.csv", tuples(2))
    for _ in range(3):
        lone.intake.receive(path)
    lone.services(timedelta(minutes=5)).sweep.run()

    retries = lone.cloud.queue_service().get_queue_client("intake-retries")
    assert retries.get_queue_properties().approximate_message_count == 1
    assert len(lone.calls) == 1


def test_what_was_planned_is_sent_as_planned_whatever_the_settings_are_by_then(
    new_corner: Callable[..., Corner],
) -> None:
    """Another size of request, another batch, another customer id for the folder: nothing of it reaches this one."""
    corner = new_corner(DEVICES_PER_REQUEST="2")
    first_waits(corner)
    (wake_up,) = corner.wake_ups()
    customers = {"CUSTOMERS": json.dumps({corner.folder: {"customerId": str(uuid4()), "batchId": "Kiosk"}})}
    changed = Corner(corner.cloud, corner.customer, {"DEVICES_PER_REQUEST": "500", "HASH_CHECK": "off"} | customers)
    changed.intake.resume(wake_up)

    assert [len(p.json["Devices"] if isinstance(p.json, dict) else p.json) for p in corner.posts] == [2, 1]
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]


def test_a_damaged_record_is_not_sent_and_blocks_nobody(corner: Corner) -> None:
    """The invocation fails, as the host is to see; what it held is free at once for the next one."""
    path = first_waits(corner)
    (wake_up,) = corner.wake_ups()
    record = corner.cloud.blob_service().get_blob_client("intake-ledger", f"uploads/{corner.key(path)}")
    whole = record.download_blob().readall()

    def write(data: bytes) -> None:
        record.upload_blob(data, overwrite=True, metadata=record.get_blob_properties().metadata)

    write(whole.replace(b"SN-00001", b"SN-0000X"))
    with pytest.raises(RuntimeError, match="not what was planned"):
        corner.intake.resume(wake_up)
    assert not corner.posts

    write(whole)
    corner.intake.receive(path)
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]


def test_a_token_without_mfa_is_the_operators(corner: Corner) -> None:
    """The `amr` claim is looked at before the first call."""
    corner.cloud.entra.amr = ["pwd"]
    try:
        corner.deliver("a.csv", tuples(1))
    finally:
        corner.cloud.entra.amr = ["pwd", "mfa"]

    assert not corner.calls
    assert not corner.rejections
    assert corner.wake() == 1
    assert len(corner.posts) == 1


def test_an_expired_token_is_renewed_once(corner: Corner) -> None:
    """A 401 costs one exchange and one repeat, with the same request id."""
    corner.deliver("a.csv", tuples(1))
    corner.cloud.entra.revoke_access_tokens()
    exchanges = len(corner.cloud.entra.exchanges)
    corner.deliver("b.csv", tuples(1, start=9))

    assert len(corner.cloud.entra.exchanges) == exchanges + 1
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00009"]


def test_one_token_serves_many_manifests_at_once(corner: Corner) -> None:
    """Renewal is done by one thread; the others wait for it."""
    exchanges = len(corner.cloud.entra.exchanges)
    paths = [corner.drop(f"{n}.csv", tuples(1, start=n)) for n in range(6)]
    threads = [threading.Thread(target=corner.intake.receive, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(corner.cloud.entra.exchanges) == exchanges + 1
    assert sorted(serials(corner.batches["Standard"])) == [f"SN-{n:05d}" for n in range(6)]


@pytest.mark.parametrize("way", ["certificate", "managed-identity"])
def test_the_app_proves_itself_without_a_secret(new_corner: Callable[..., Corner], way: str) -> None:
    """A certificate from the vault, or the managed identity alone."""
    corner = new_corner(PARTNER_CLIENT_AUTH=way)
    corner.deliver("a.csv", tuples(1))

    expected = {"certificate": "certificate", "managed-identity": "federated"}[way]
    assert expected in str(corner.cloud.entra.exchanges[-1].method)
    assert len(corner.posts) == 1


def test_a_lost_answer_is_asked_for_again_with_the_same_request_id(corner: Corner) -> None:
    """Partner Center took the request and its answer was lost: the repeat is the same request, and adds nothing."""
    corner.cloud.partner_center.faults.add(accept_then_reset(on=f"POST */{corner.customer}/deviceBatches"))
    corner.deliver("a.csv", tuples(2))

    lost, answered = corner.posts
    assert lost.headers["MS-RequestId"] == answered.headers["MS-RequestId"]
    assert lost.headers["MS-CorrelationId"] != answered.headers["MS-CorrelationId"]
    assert len(corner.batches["Standard"]) == 2
    assert corner.results[0]["data"]["location"] == answered.location == lost.location


def test_a_short_retry_after_is_waited_out(corner: Corner) -> None:
    """A throttle of a second costs a second and not a parking."""
    corner.cloud.partner_center.faults.add(
        respond(429, headers={"Retry-After": "1"}, on=f"POST */{corner.customer}/deviceBatches")
    )
    corner.deliver("a.csv", tuples(2))

    first, second = corner.posts
    assert second.when - first.when >= 1
    assert len(corner.results) == 1


def test_a_long_retry_after_is_parked_for_as_long(corner: Corner) -> None:
    """Waiting in a function costs money and a worker: the wake-up comes when Partner Center said."""
    corner.cloud.partner_center.faults.add(
        respond(429, headers={"Retry-After": "900"}, on=f"GET */{corner.customer}/deviceBatches")
    )
    before = datetime.now(UTC)
    corner.deliver("a.csv", tuples(2))

    assert len(corner.calls) == 1
    (wake_up,) = corner.wake_ups()
    key = json.loads(wake_up)["key"]
    blob = corner.cloud.blob_service().get_blob_client("intake-ledger", f"uploads/{key}")
    due = datetime.fromisoformat(blob.get_blob_properties().metadata["due"])
    assert timedelta(seconds=895) < due - before < timedelta(seconds=930)


def test_a_refused_request_leaves_the_others(corner: Corner) -> None:
    """Partner Center refuses one of three requests: its sender is told its rows, and the rest go."""
    corner.cloud.partner_center.add_batch(corner.customer, "Standard")
    corner.cloud.partner_center.faults.add(
        respond(400, {"code": "800002", "description": "Bad device"}, on=f"POST */{corner.customer}/*")
    )
    path = corner.deliver("a.csv", tuples(1200))

    (refused,) = corner.rejections
    assert refused["type"] == "io.autopilotdrop.upload.refused"
    assert (refused["data"]["part"], refused["data"]["serviceCode"]) == (1, "800002")
    assert refused["data"]["rows"] == [[2, 501]]
    assert [e["data"]["part"] for e in corner.results] == [2, 3]
    report = corner.report(path)
    assert (report["state"], report["verdict"]) == ("submitted", "accepted-with-errors")
    assert report["findings"][0]["code"] == "refused-by-partner-center"


def test_content_that_was_refused_may_be_sent_anew(corner: Corner) -> None:
    """A refusal is no delivery: the same file under a new name is a record like any other."""
    corner.cloud.partner_center.faults.add(
        respond(400, {"code": "3000", "description": "no"}, on=f"POST */{corner.customer}/*")
    )
    corner.deliver("a.csv", tuples(2))
    corner.deliver("again.csv", tuples(2))

    assert len(corner.batches["Standard"]) == 2
    assert [e["type"] for e in corner.results] == ["io.autopilotdrop.upload.submitted"]


def test_a_customer_of_somebody_else_is_named(corner: Corner) -> None:
    """Partner Center does not know the customer: nothing is posted, and the sender learns it."""
    corner.cloud.partner_center.faults.add(
        respond(404, {"code": "60003", "description": "not found"}, on=f"GET */{corner.customer}/deviceBatches")
    )
    corner.deliver("a.csv", tuples(600))

    assert not corner.posts
    assert [e["data"]["reason"] for e in corner.rejections] == ["customer-not-found"] * 2


@pytest.mark.parametrize(
    ("location", "tracking_path"),
    [
        ("/customers/c/batchJobStatus/j", "/v1/customers/c/batchJobStatus/j"),
        ("customers/c/batchJobStatus/j", "/v1/customers/c/batchJobStatus/j"),
        ("/v1/customers/c/batchJobStatus/j", "/v1/customers/c/batchJobStatus/j"),
        ("{base}/v1/customers/c/batchJobStatus/j", "/v1/customers/c/batchJobStatus/j"),
        ("https://elsewhere.example/v1/customers/c/batchJobStatus/j", None),
        ("/" + "x" * 3000, None),
        ("", None),
    ],
)
def test_every_shape_of_location_is_kept_verbatim(corner: Corner, location: str, tracking_path: str | None) -> None:
    """The header goes onto the queue as it came; the tracking URI only where it leads to Partner Center."""
    location = location.format(base=corner.cloud.partner_center.url)
    headers = {"Location": location} if location else {}
    corner.cloud.partner_center.faults.add(respond(202, headers=headers, on=f"POST */{corner.customer}/deviceBatches"))
    corner.deliver("a.csv", tuples(1))

    (event,) = corner.results
    usable = bool(location) and len(location) < 2048
    assert event["data"]["location"] == (location if usable else None)
    expected = tracking_path and corner.cloud.partner_center.url + tracking_path
    assert event["data"]["trackingUri"] == expected
    assert len(corner.posts) == 1


def test_an_older_upload_does_not_overwrite_the_latest_report(corner: Corner) -> None:
    """`{name}.report.json` is of the latest upload, whichever ends last."""
    path = corner.deliver("a.csv", tuples(1))
    newest = corner.report(path)["manifest"]["id"]
    old = Upload(
        container_url="https://x/manifests",
        container="manifests",
        name=path,
        etag="old",
        received=datetime(2020, 1, 1, tzinfo=UTC),
        size=1,
    )
    corner.intake.reports.write_latest(f"{path}.report.json", b"{}", old)

    assert corner.report(path)["manifest"]["id"] == newest


def test_customers_may_lie_in_a_blob(new_corner: Callable[..., Corner]) -> None:
    """Adding a customer needs no restart of the app."""
    corner = new_corner(CUSTOMERS="settings/customers.json")
    container = corner.cloud.blob_service().get_container_client("settings")
    if not container.exists():
        container.create_container()
    container.upload_blob("customers.json", json.dumps({"*": {"batchId": "Any"}}), overwrite=True)
    corner.deliver("a.csv", tuples(1))

    assert len(corner.batches["Any"]) == 1


def test_nothing_secret_and_no_hash_comes_out(corner: Corner, samples: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No token, secret or hardware hash in any log, message, report or ledger entry but the planned request itself."""
    caplog.set_level("DEBUG", logger="shared")
    corner.cloud.partner_center.faults.add(respond(401, "", on=f"GET */{corner.customer}/deviceBatches"))
    text = (samples / "collector_utf16le.csv").read_text("utf-16")
    path = corner.deliver("a.csv", text.encode())
    hashes = [line.split(",")[2] for line in text.splitlines()[1:] if line]

    vault = corner.cloud.key_vault
    secrets = [
        vault.secret("partner-client-secret"),
        vault.secret("partner-refresh-token"),
        *corner.cloud.entra.issued_tokens,
    ]
    reports = [corner.report_file(f).decode() for f in corner.report_files(path) if "resend" not in f]
    said = [caplog.text, *corner.texts("RESULT_QUEUE"), *reports, repr(corner.intake)]
    assert len(corner.posts) == 1
    for what in (*secrets, *(h[:60] for h in hashes)):
        assert not [out[:80] for out in said if what in out]


def test_what_the_time_budget_leaves_over_goes_on_in_another_invocation(corner: Corner) -> None:
    """A large manifest must not run into the function's time-out: it is parked without delay, and goes on behind."""
    corner.cloud.partner_center.add_batch(corner.customer, "Standard")
    corner.cloud.partner_center.faults.add(slow(0.5, on=f"POST */{corner.customer}/*"))
    path = corner.drop("many.csv", tuples(1200))
    hurried = replace(corner.intake, budget=timedelta(seconds=0.4))
    hurried.receive(path)
    assert len(corner.posts) == 1

    assert corner.wake() == 1
    assert len(corner.posts) == 3
    assert sorted(serials(corner.batches["Standard"])) == [f"SN-{n:05d}" for n in range(1200)]
    assert [e["data"]["part"] for e in corner.results] == [1, 2, 3]
    assert corner.report(path)["state"] == "submitted"


def test_what_goes_on_behind_an_answered_request_asks_which_batches_there_are(corner: Corner) -> None:
    """Nothing of it is unheard: the batch of the next request is not created to see."""
    for batch in ("Kiosk", "Standard"):
        corner.cloud.partner_center.add_batch(corner.customer, batch)
    corner.cloud.partner_center.faults.add(slow(0.5, on=f"POST */{corner.customer}/*"))
    hurried = replace(corner.intake, budget=timedelta(seconds=0.4))
    hurried.receive(corner.drop("a.csv", tuples(1, "Kiosk") + b"SN-9,,,Contoso Ltd,Slate,Standard\n"))
    assert len(corner.posts) == 1

    assert corner.wake() == 1
    assert [p.status for p in corner.posts] == [202, 202]


@pytest.mark.parametrize("path", ["{}/../{}/b.csv", "{}/./b.csv"])
def test_a_path_does_not_lead_from_one_folder_into_another(corner: Corner, path: str) -> None:
    """Clients normalize such names: what they would read and write is somebody else's."""
    other = Corner(corner.cloud)
    victim = other.drop("b.csv", tuples(1))
    name = path.format(corner.folder, other.folder)
    corner.intake.receive(name)

    assert not corner.posts
    assert [e["data"]["reason"] for e in corner.rejections] == ["unknown-customer"]
    assert not corner.report_files(victim)
    assert not corner.report_files(corner.folder)
