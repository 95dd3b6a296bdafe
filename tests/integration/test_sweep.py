"""What no event brought, and what nobody holds, is found within one sweep of becoming due."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.queue import TextBase64DecodePolicy

from local.cloud import LocalCloud
from local.simulators.faults import respond
from shared import wiring
from shared.ledger import TERM
from shared.sweep import GRACE, Sweep
from tests.integration.conftest import Corner, Die
from tests.integration.test_intake import serials, tuples


@pytest.fixture
def corner() -> Iterator[Corner]:
    """A corner with storage of its own: a sweep sees all that lies in it."""
    with LocalCloud() as cloud, pytest.MonkeyPatch.context() as patch:
        for name, value in cloud.settings().items():
            patch.setenv(name, value)
        yield Corner(cloud)


def sweep(corner: Corner, after: timedelta) -> list[str]:
    """Sweep as if so much later, and carry out what it queued; returns that."""
    intake = wiring.build(corner.environment, lambda: datetime.now(UTC) + after)
    Sweep(intake.manifests, intake.ledger, intake.queues, intake.alerts, intake.clock).run()
    queue = corner.cloud.queue_service().get_queue_client(
        "intake-retries", message_decode_policy=TextBase64DecodePolicy()
    )
    wake_ups = []
    for message in queue.receive_messages():
        queue.delete_message(message)
        wake_ups.append(message.content)
        intake.resume(message.content)
    return wake_ups


def test_a_manifest_that_raised_no_event_is_found(corner: Corner) -> None:
    """Renamed into place by SFTP, dropped before the subscription, its event lost: it goes the same way."""
    path = corner.drop("a.csv", tuples(2))
    assert not sweep(corner, timedelta(0))

    assert sweep(corner, GRACE + timedelta(seconds=5)) == [json.dumps({"name": path})]
    assert len(corner.results) == 1
    assert not sweep(corner, timedelta(hours=9))


def test_what_is_no_manifest_is_not_swept_up(corner: Corner) -> None:
    """Nor is an empty blob within its first hour; after that it is answered."""
    for name in (".hidden", "a.part", "a.csv.report.json"):
        corner.drop(name, b"x")
    corner.drop("empty.csv", b"")
    assert not sweep(corner, timedelta(minutes=50))

    assert len(sweep(corner, timedelta(minutes=65))) == 1
    assert corner.rejections[0]["data"]["reason"] == "empty-manifest"


@pytest.mark.parametrize("step", [3, 8, 12, 14])
def test_a_manifest_whose_holder_died_is_gone_on_with(corner: Corner, die: Die, step: int) -> None:
    """No event comes again, and nothing depends on a poison queue."""
    path = corner.drop("a.csv", tuples(2))
    die(corner, path, step)
    assert not sweep(corner, timedelta(seconds=1))

    assert len(sweep(corner, TERM + GRACE + timedelta(seconds=5))) == 1
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert {e["data"]["part"] for e in corner.results} == {1}
    assert not sweep(corner, timedelta(hours=9))


def test_a_lost_wake_up_is_made_up_for(corner: Corner) -> None:
    """The parked manifest's message is gone; its record says when it was due."""
    on = f"GET */{corner.customer}/deviceBatches"
    corner.cloud.partner_center.faults.add(respond(429, headers={"Retry-After": "60"}, on=on))
    corner.deliver("a.csv", tuples(2))
    corner.cloud.queue_service().get_queue_client("intake-retries").clear_messages()
    assert not sweep(corner, timedelta(seconds=50))

    assert len(sweep(corner, timedelta(seconds=75) + GRACE)) == 1
    assert len(corner.results) == 1


def test_a_manifest_that_ends_every_process_is_stalled(corner: Corner, die: Die) -> None:
    """It is not looped for ever: after five starts an operator is told, once."""
    path = corner.drop("a.csv", tuples(2))
    die(corner, path, 4)
    (blob,) = corner.cloud.blob_service().get_container_client("intake-ledger").list_blobs(name_starts_with="uploads/")
    record = corner.cloud.blob_service().get_blob_client("intake-ledger", blob.name)
    record.set_blob_metadata(record.get_blob_properties().metadata | {"starts": "5"})

    assert len(sweep(corner, TERM + GRACE + timedelta(seconds=5))) == 1
    assert not corner.posts
    (alert,) = corner.alerts
    assert alert["data"]["problem"] == "manifest-stalled"
    assert not sweep(corner, timedelta(hours=9))
