"""What no event brought, and what nobody holds, is found within one sweep of becoming due."""

import json
from datetime import timedelta

import pytest

from local.simulators.faults import respond
from shared.ledger import TERM
from shared.sweep import GRACE
from tests.integration.conftest import Corner, Die, sweep
from tests.integration.test_intake import serials, tuples


def test_a_manifest_that_raised_no_event_is_found(lone: Corner) -> None:
    """Renamed into place by SFTP, dropped before the subscription, its event lost: it goes the same way."""
    path = lone.drop("a.csv", tuples(2))
    assert not sweep(lone, timedelta(0))

    assert sweep(lone, GRACE + timedelta(seconds=5)) == [json.dumps({"name": path})]
    assert len(lone.results) == 1
    assert not sweep(lone, timedelta(hours=9))


def test_what_is_no_manifest_is_not_swept_up(lone: Corner) -> None:
    """Nor is an empty blob within its first hour; after that it is answered."""
    for name in (".hidden", "a.part", "a.csv.report.json"):
        lone.drop(name, b"x")
    lone.drop("empty.csv", b"")
    assert not sweep(lone, timedelta(minutes=50))

    assert len(sweep(lone, timedelta(minutes=65))) == 1
    assert lone.rejections[0]["data"]["reason"] == "empty-manifest"


@pytest.mark.parametrize("step", [3, 8, 12, 14])
def test_a_manifest_whose_holder_died_is_gone_on_with(lone: Corner, die: Die, step: int) -> None:
    """No event comes again, and nothing depends on a poison queue."""
    path = lone.drop("a.csv", tuples(2))
    die(lone, path, step)
    assert not sweep(lone, timedelta(seconds=1))

    assert len(sweep(lone, TERM + GRACE + timedelta(seconds=5))) == 1
    assert serials(lone.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert {e["data"]["part"] for e in lone.results} == {1}
    assert not sweep(lone, timedelta(hours=9))


def test_a_lost_wake_up_is_made_up_for(lone: Corner) -> None:
    """The parked manifest's message is gone; its record says when it was due."""
    on = f"GET */{lone.customer}/deviceBatches"
    lone.cloud.partner_center.faults.add(respond(429, headers={"Retry-After": "60"}, on=on))
    lone.deliver("a.csv", tuples(2))
    lone.cloud.queue_service().get_queue_client("intake-retries").clear_messages()
    assert not sweep(lone, timedelta(seconds=50))

    assert len(sweep(lone, timedelta(seconds=75) + GRACE)) == 1
    assert len(lone.results) == 1


def test_a_manifest_that_ends_every_process_is_stalled(lone: Corner, die: Die) -> None:
    """It is not looped for ever: after five starts an operator is told, once."""
    path = lone.drop("a.csv", tuples(2))
    die(lone, path, 4)
    (blob,) = lone.cloud.blob_service().get_container_client("intake-ledger").list_blobs(name_starts_with="uploads/")
    record = lone.cloud.blob_service().get_blob_client("intake-ledger", blob.name)
    record.set_blob_metadata(record.get_blob_properties().metadata | {"starts": "5"})

    assert len(sweep(lone, TERM + GRACE + timedelta(seconds=5))) == 1
    assert not lone.posts
    (alert,) = lone.alerts
    assert alert["data"]["problem"] == "manifest-stalled"
    assert not sweep(lone, timedelta(hours=9))
