"""Blobs that change under the reader, and workers that meet over one manifest."""

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from fnmatch import fnmatchcase

import pytest

from local.cloud import LocalCloud
from local.simulators.faults import hold, respond
from local.simulators.server import ReceivedRequest, Simulator
from shared.ledger import TERM
from tests.integration.conftest import Corner, gated
from tests.integration.test_crashes import told_once_or_the_same_again
from tests.integration.test_intake import serials, tuples

OUT_OF_REACH = TERM + timedelta(seconds=5)  # a claim that nobody renewed is over then


@contextmanager
def meanwhile(simulator: Simulator, on: str, act: Callable[[], object], times: int = 1) -> Iterator[None]:
    """Acts when so many such requests were carried out, and before any of them is answered."""
    acted, over = threading.Event(), threading.Event()
    simulator.faults.add(hold(acted, on=on, times=times))
    seen = len(simulator.requests)

    def look() -> None:
        while sum(r.carried_out and _is(r, on) for r in simulator.requests[seen:]) < times:
            if over.wait(0.01):
                return
        act()
        acted.set()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _is(request: ReceivedRequest, on: str) -> bool:
    return fnmatchcase(f"{request.method} {request.path}".lower(), on.lower())


def long(version: str) -> bytes:
    """A manifest that is read in several pieces."""
    rest = {"OemManufacturerName": "Contoso Ltd", "ModelName": version, "Note": "x" * 100_000}
    return json.dumps([{"SerialNumber": f"SN-{n}", **rest} for n in range(60)]).encode()


def test_a_blob_replaced_while_it_is_read_is_read_anew(cloud: LocalCloud) -> None:
    """The new one is the manifest; nothing of the old one is sent."""
    with gated(cloud) as one:
        path = one.corner.drop("a.csv", long("old"))
        with meanwhile(one.blobs, "GET */a.csv", lambda: one.corner.drop("a.csv", long("new"))):
            one.corner.intake.receive(path)
        assert {d["ModelName"] for d in one.corner.batches["Standard"]} == {"new"}
        assert len(one.corner.results) == 1


def test_a_blob_deleted_while_it_is_read_is_gone(cloud: LocalCloud) -> None:
    """Its sender took it back before anything was planned."""
    with gated(cloud) as one:
        path = one.corner.drop("a.csv", long("old"))
        blob = cloud.blob_service().get_blob_client("manifests", path)
        with meanwhile(one.blobs, "GET */a.csv", blob.delete_blob):
            one.corner.intake.receive(path)
        assert not one.corner.calls
        assert not one.corner.rejections


def test_a_blob_replaced_while_parked_is_another_manifest(corner: Corner) -> None:
    """What was planned is sent as it was planned, and the new one beside it."""
    corner.cloud.partner_center.faults.add(respond(503, on="GET */deviceBatches", times=3))
    corner.deliver("a.csv", tuples(2))
    assert not corner.posts
    corner.deliver("a.csv", tuples(2, start=10))
    assert corner.wake() == 1

    assert sorted(serials(corner.batches["Standard"])) == ["SN-00000", "SN-00001", "SN-00010", "SN-00011"]
    assert len({r["data"]["manifest"]["id"] for r in corner.results}) == 2


def test_a_blob_deleted_while_parked_is_sent_all_the_same(corner: Corner) -> None:
    """Its sender had the receipt; the plan is all that is needed."""
    corner.cloud.partner_center.faults.add(respond(503, on="GET */deviceBatches", times=3))
    path = corner.deliver("a.csv", tuples(2))
    corner.cloud.blob_service().get_blob_client("manifests", path).delete_blob()
    assert corner.wake() == 1
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]


def test_a_blob_replaced_after_its_first_part_changes_no_other(new_corner: Callable[..., Corner]) -> None:
    """Parts of one manifest are of one version, whatever lies in the container meanwhile."""
    corner = new_corner(DEVICES_PER_REQUEST="1")
    path = corner.drop("a.csv", tuples(3))
    on = f"POST */{corner.customer}/deviceBatches"
    with meanwhile(corner.cloud.partner_center, on, lambda: corner.drop("a.csv", tuples(3, start=10))):
        corner.intake.receive(path)
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]
    corner.intake.receive(path)
    assert len(corner.batches["Standard"]) == 6


def test_a_claim_lost_under_a_post_loses_no_answer(new_corner: Callable[..., Corner]) -> None:
    """The worker was stopped for longer than its term, and another took over: one id, one message, told by either."""
    corner = new_corner(DEVICES_PER_REQUEST="2")
    path = corner.drop("a.csv", tuples(4))
    on = f"POST */{corner.customer}/deviceBatches"
    other = corner.at(OUT_OF_REACH)
    with meanwhile(corner.cloud.partner_center, on, lambda: other.receive(path)):
        corner.intake.receive(path)

    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002", "SN-00003"]
    assert len({p.headers["MS-RequestId"] for p in corner.posts if p.status == 202}) == 2
    assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 2
    assert corner.report(path)["state"] == "submitted"


def test_a_claim_lost_before_a_post_keeps_it_back(corner: Corner) -> None:
    """The worker was stopped while it asked for the batches, and all was sent meanwhile: it sends nothing again."""
    path = corner.drop("a.csv", tuples(2))

    def go_on(after: timedelta = OUT_OF_REACH) -> None:
        corner.same_services(after).intake.receive(path)

    with meanwhile(corner.cloud.partner_center, f"GET */{corner.customer}/deviceBatches", go_on):
        go_on(timedelta(0))
    assert len(corner.posts) == len(corner.texts("RESULT_QUEUE")) == 1


@pytest.mark.parametrize("stopped_at", ["PUT */uploads/*", "PUT */problems/*"], ids=["receipt", "parking"])
def test_a_worker_that_was_stopped_leaves_the_report_of_whoever_went_on(cloud: LocalCloud, stopped_at: str) -> None:
    """It comes to itself when all is sent, about to write the receipt, or that the manifest waits."""
    with gated(cloud) as one:
        path = one.corner.drop("a.csv", tuples(2))
        if "problems" in stopped_at:
            forbidden = respond(403, on=f"GET */{one.corner.customer}/deviceBatches")
            cloud.partner_center.faults.add(forbidden)

        def go_on(after: timedelta = OUT_OF_REACH) -> None:
            one.corner.same_services(after).intake.receive(path)

        with meanwhile(one.blobs, stopped_at, go_on):
            go_on(timedelta(0))
    assert len(one.corner.posts) == 1
    assert one.corner.report(path)["state"] == "submitted"


def test_of_two_wake_ups_with_one_nonce_one_counts(cloud: LocalCloud) -> None:
    """The other finds it parked anew, and does not ask before it is time."""
    with gated(cloud) as one:
        throttled = respond(429, headers={"Retry-After": "600"}, on=f"GET */{one.corner.customer}/*", times=2)
        cloud.partner_center.faults.add(throttled)
        one.corner.deliver("a.csv", tuples(2))
        (wake_up,) = one.corner.wake_ups()
        with meanwhile(one.blobs, "* */uploads/*", lambda: one.corner.intake.resume(wake_up)):
            one.corner.intake.resume(wake_up)
        assert len(one.corner.calls) == 2


def test_two_manifests_for_the_same_new_batch(corner: Corner) -> None:
    """Both see that it is not there yet: one creates it, the other appends."""
    paths = [corner.drop(f"{n}.csv", tuples(2, start=n * 10)) for n in range(2)]
    assert corner.intake
    on = f"GET */{corner.customer}/deviceBatches"
    with meanwhile(corner.cloud.partner_center, on, lambda: None, times=2), ThreadPoolExecutor() as pool:
        list(pool.map(corner.intake.receive, paths))

    assert len(corner.batches["Standard"]) == 4
    assert sorted(p.status or 0 for p in corner.posts) == [202, 202, 409]
    assert len(corner.results) == 2


def test_a_first_upload_that_ends_under_the_look_of_another_was_not_refused(cloud: LocalCloud) -> None:
    """The second reads how its content went so far, and the first has its last request accepted: it goes once."""
    with gated(cloud) as one:
        outage = respond(503, on=f"GET */{one.corner.customer}/deviceBatches", times=3)
        cloud.partner_center.faults.add(outage)
        one.corner.deliver("first.csv", tuples(2))
        (wake_up,) = one.corner.wake_ups()
        path = one.corner.drop("second.csv", tuples(2))
        first = Corner(cloud, one.corner.customer).intake
        with meanwhile(one.blobs, "GET */intake-ledger", lambda: first.resume(wake_up)):
            one.corner.intake.receive(path)
    assert len(one.corner.posts) == 1
    assert one.corner.report(path)["verdict"] == "duplicate"


def test_of_two_that_find_the_first_refused_one_is_sent(cloud: LocalCloud) -> None:
    """Both read that the content may go anew; the other is a duplicate of the one that was quicker."""
    with gated(cloud) as one:
        refusal = respond(400, {"code": "3000", "description": "no"}, on=f"POST */{one.corner.customer}/*")
        cloud.partner_center.faults.add(refusal)
        one.corner.deliver("first.csv", tuples(2))
        second, third = (one.corner.drop(f"{n}.csv", tuples(2)) for n in range(2))
        with meanwhile(one.blobs, "GET */content/*", lambda: one.corner.intake.receive(third)):
            one.corner.intake.receive(second)
    assert [p.status for p in one.corner.posts] == [400, 202]
    assert [one.corner.report(path)["verdict"] for path in (second, third)] == ["duplicate", "accepted"]


def test_twenty_deliveries_at_once_are_one(new_corner: Callable[..., Corner]) -> None:
    """Event Grid says it again while it is worked on."""
    corner = new_corner(DEVICES_PER_REQUEST="1")
    path = corner.drop("a.csv", tuples(3))
    assert corner.intake
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(corner.intake.receive, [path] * 20))

    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]
    assert len(corner.posts) == 3
    assert len(corner.texts("RESULT_QUEUE")) == 3
    assert json.loads(corner.texts("RESULT_QUEUE")[0])["data"]["parts"] == 3
