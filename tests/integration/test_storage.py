"""The storage account as it fails in the field: answers lost on the way back, refusals, outages, restarts."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from azure.core.exceptions import HttpResponseError

from local.cloud import LocalCloud
from local.simulators.faults import Fault, accept_then_reset, respond
from tests.conftest import new_cloud
from tests.integration.conftest import Corner, gated
from tests.integration.test_crashes import told_once_or_the_same_again
from tests.integration.test_intake import serials, tuples
from tests.integration.test_races import OUT_OF_REACH, meanwhile

AT_ONCE = 16
AZURITE_SAVES = 5.0  # seconds: what is younger may be lost when it is killed

type Act = Callable[[], None]


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """Storage of its own, from which a sweep may clear what refusals left."""
    with new_cloud() as cloud:
        yield cloud


# What an intake may be at: each makes all ready, and returns the call that storage's faults are to meet.


def goes(corner: Corner) -> Act:
    return partial(corner.intake.receive, corner.drop("a.csv", tuples(3)))


def is_rejected(corner: Corner) -> Act:
    return partial(corner.intake.receive, corner.drop("a.csv", b"colour\nred\n"))


def is_a_duplicate(corner: Corner) -> Act:
    corner.deliver("first.csv", tuples(3))
    return partial(corner.intake.receive, corner.drop("a.csv", tuples(3)))


def is_parked(corner: Corner) -> Act:
    fail_once(corner, 429, {"Retry-After": "60"})
    return goes(corner)


def is_the_operators(corner: Corner) -> Act:
    fail_once(corner, 403)
    return goes(corner)


def goes_on(corner: Corner) -> Act:
    is_the_operators(corner)()
    return partial(corner.intake.resume, wake_up(corner))


WAYS = pytest.mark.parametrize("way", [goes, is_rejected, is_a_duplicate, is_parked, is_the_operators, goes_on])
SERVICES = pytest.mark.parametrize("service", ["blobs", "queues"])


def fail_once(corner: Corner, status: int, headers: dict[str, str] | None = None) -> None:
    fault = respond(status, headers=headers, on=f"GET */{corner.customer}/deviceBatches")
    corner.cloud.partner_center.faults.add(fault)


def wake_up(corner: Corner) -> str:
    key = corner.key(f"{corner.folder}/a.csv")
    return json.dumps({"key": key, "nonce": corner.intake.ledger.state(key).nonce})


def at_each_call(
    cloud: LocalCloud, service: str, way: Callable[[Corner], Act], fault: Callable[[int], Fault]
) -> Iterator[Corner]:
    """Corners in which the faults began at another of its calls to this service, and what followed when they ended."""

    def meet(call: int | None) -> tuple[Corner, int]:
        with gated(cloud) as one:
            act, gateway = way(one.corner), getattr(one, service)
            gateway.requests.clear()
            if call is not None:
                gateway.faults.add(fault(call))
            with suppress(HttpResponseError):  # the host would repeat it
                act()
            calls = len(gateway.requests)
            gateway.faults.clear()
            bring_home(one.corner)
            return one.corner, calls

    corner, calls = meet(None)
    yield corner
    assert calls >= (5 if service == "blobs" else 1)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for corner, _ in pool.map(meet, range(calls)):
            yield corner


def bring_home(corner: Corner) -> None:
    """What the host and sweeps do in time: a wake-up where one counts, or a delivery when no claim stands."""
    path = f"{corner.folder}/a.csv"
    key, ledger = corner.key(path), corner.intake.ledger
    for _ in range(3):
        states = {entry.key: entry.state for entry in ledger.entries(key)}
        if key not in states or not (states[key].done or states[key].nonce):
            corner.same_services(OUT_OF_REACH).intake.receive(path)
        elif not states[key].done:
            corner.intake.resume(wake_up(corner))


def assert_home(corner: Corner, way: Callable[[Corner], Act]) -> None:
    """Every request arrived with one id, everybody was told once, and the report is final."""
    report = corner.report(f"{corner.folder}/a.csv")
    if way is is_rejected:
        assert len(told_once_or_the_same_again(corner.texts("REJECTION_QUEUE"))) == 1
        assert (report["verdict"], corner.posts) == ("rejected", [])
        return
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]
    assert len({p.headers["MS-RequestId"] for p in corner.posts if p.status == 202}) == 1
    messages = told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))
    assert len(messages) == (2 if way is is_a_duplicate else 1)
    assert report["state"] == ("finished" if way is is_a_duplicate else "submitted")


@WAYS
@SERVICES
def test_a_lost_answer_of_storage_is_not_taken_for_a_stranger(
    cloud: LocalCloud, service: str, way: Callable[[Corner], Act]
) -> None:
    """The client repeats the call, and is told that somebody was there first: that was itself."""
    for corner in at_each_call(cloud, service, way, lambda call: accept_then_reset(after=call)):
        assert_home(corner, way)
        assert len([p for p in corner.posts if p.status == 202]) == (way is not is_rejected)
        assert {a["data"]["problem"] for a in corner.alerts} <= {"partner-center-forbidden"}


@pytest.mark.parametrize("call", range(3), ids=["plan", "told", "done"])
def test_a_lost_answer_of_the_ledger_makes_nobody_wait(cloud: LocalCloud, call: int) -> None:
    """Whoever wrote it knows his own hand and goes on, instead of leaving it to the next sweep."""
    with gated(cloud) as one:
        one.blobs.faults.add(accept_then_reset(on="PUT */uploads/*", after=call))
        path = one.corner.deliver("a.csv", tuples(2))
        assert not one.blobs.faults.left
        assert one.corner.intake.ledger.state(one.corner.key(path)).done


@pytest.mark.parametrize("way", [goes, is_rejected, goes_on])
@SERVICES
def test_storage_that_refuses_from_any_call_on_loses_nothing(
    cloud: LocalCloud, service: str, way: Callable[[Corner], Act]
) -> None:
    """A role was taken away, or a queue deleted, in the middle of it, and given back later; no alert stays behind."""
    for corner in at_each_call(cloud, service, way, lambda call: respond(403, after=call, times=None)):
        assert_home(corner, way)
        if service == "queues":
            assert len([p for p in corner.posts if p.status == 202]) == (way is not is_rejected)
    later = Corner(cloud).services(timedelta(minutes=30))
    later.sweep.run()
    assert not later.sweep.alerts.open()


def test_storage_may_be_restarted_under_an_intake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while Partner Center is at the request, and again while nothing is known of a manifest yet."""
    with LocalCloud(tmp_path) as cloud:
        for name, value in cloud.settings().items():
            monkeypatch.setenv(name, value)
        corner = Corner(cloud)
        paths = [corner.drop(f"{n}.csv", tuples(2, start=n * 10)) for n in range(2)]
        starting = threading.Timer(0.5, cloud.azurite.start), threading.Timer(0.5, cloud.azurite.start)

        def kill() -> None:
            time.sleep(AZURITE_SAVES + 0.5)
            cloud.azurite.kill()
            starting[0].start()

        with meanwhile(cloud.partner_center, "POST */deviceBatches", kill):
            corner.intake.receive(paths[0])
        starting[0].join()
        assert corner.report(paths[0])["state"] == "submitted"
        assert len(corner.results) == 1

        cloud.azurite.kill()
        starting[1].start()
        corner.intake.receive(paths[1])
        starting[1].join()
        assert corner.report(paths[1])["state"] == "submitted"
        assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00010", "SN-00011"]
        assert len(corner.posts) == 2
