"""Partner Center as it fails in the field. For each fault: who is told, what waits, and that nothing is lost."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from local.simulators.faults import (
    Fault,
    accept_then_hang,
    accept_then_reset,
    reset_after_reading,
    reset_before_reading,
    respond,
    slow,
    trickle,
)
from shared.partner_center import BearerAuth, PartnerCenter
from shared.partner_center.client import LARGEST_ANSWER
from tests.integration.conftest import IMPATIENT, Corner, sweep
from tests.integration.test_intake import serials, tuples

PAGE = "<!DOCTYPE html><html><body><h1>502 Bad Gateway</h1></body></html>"
PASSING = {
    "429": respond(429),
    "429 with Retry-After": respond(429, {"code": "999429"}, {"Retry-After": "0"}),
    "429 with a date": respond(429, headers={"Retry-After": "Mon, 23 Nov 2026 10:00:00 GMT"}),
    "408": respond(408),
    "500": respond(500, {"code": "2000", "description": "server error"}),
    "502 page": respond(502, PAGE, {"Content-Type": "text/html"}),
    "503": respond(503),
    "504": respond(504, "gateway timeout"),
    "redirect": respond(307, headers={"Location": "https://elsewhere.example/"}),
    "reset before reading": reset_before_reading(),
    "reset after reading": reset_after_reading(),
    "reset after carrying out": accept_then_reset(),
    "hangs after carrying out": accept_then_hang(0.3),
    "trickles": trickle(2_000),
}
MISSING_MFA = {
    "900421": respond(401, {"code": "900421", "description": "Access denied"}),
    "10001": respond(401, {"code": "10001"}),
    "reason phrase": respond(401, reason="Unauthorized - MFA required"),
    "plain text": respond(401, "MFA required"),
}
FORBIDDEN = {
    "no body": respond(403),
    "role": respond(403, {"code": "2032", "description": "User is not in a role that may"}),
    "indirect reseller": respond(403, {"code": "1002", "description": "Access denied"}),
    "page": respond(403, PAGE, {"Content-Type": "text/html"}),
}


@contextmanager
def fault(corner: Corner, fault: Fault, on: str, times: int | None) -> Iterator[None]:
    """A fault of this corner's calls of one kind, until it is over."""
    faults = corner.cloud.partner_center.faults
    method, _, rest = on.partition(" ")
    matching = {"on": f"{method} */{corner.customer}/{rest}", "times": times}
    faults.add(Fault(**{name: getattr(fault, name) for name in Fault.__slots__} | matching))
    yield
    faults.clear()


@pytest.mark.parametrize("on", ["GET deviceBatches", "POST deviceBatches"])
@pytest.mark.parametrize("kind", PASSING)
def test_what_passes_by_itself_is_tried_again(corner: Corner, kind: str, on: str) -> None:
    """In the same invocation, with the same id; nobody is told."""
    with fault(corner, PASSING[kind], on, times=1):
        path = corner.deliver("a.csv", tuples(2))

    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert len({p.headers["MS-RequestId"] for p in corner.posts}) == 1
    assert len(corner.results) == 1
    assert corner.report(path)["state"] == "submitted"
    assert not corner.alerts


@pytest.mark.parametrize("on", ["GET deviceBatches", "POST deviceBatches"])
@pytest.mark.parametrize("kind", ["429", "502 page", "reset before reading", "reset after carrying out"])
def test_what_lasts_is_waited_out(corner: Corner, kind: str, on: str) -> None:
    """The manifest is parked; its sender reads `waiting`, nobody is woken, and it goes on with the same id."""
    with fault(corner, PASSING[kind], on, times=None):
        path = corner.deliver("a.csv", tuples(2))
        assert not corner.results
        assert corner.report(path)["state"] == "waiting"

    assert corner.wake() == 1
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert len({p.headers["MS-RequestId"] for p in corner.posts}) == 1
    assert len(corner.results) == 1
    assert not corner.alerts


def test_a_batch_whose_creation_was_accepted_unheard_is_appended_to_with_the_append_s_id(
    corner: Corner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Partner Center forgot the id meanwhile and says that the batch exists: 806 makes the append harmless."""
    monkeypatch.setattr(corner.cloud.partner_center, "remembers_request_ids", False)
    with fault(corner, accept_then_reset(), "POST deviceBatches", times=1):
        hasty = replace(corner.intake, patience=replace(IMPATIENT, attempts=1))
        hasty.receive(corner.drop("a.csv", tuples(2)))
    corner.wake()

    unheard, again, append = corner.posts
    assert (unheard.status, again.status, append.status) == (None, 409, 202)
    assert unheard.headers["MS-RequestId"] == again.headers["MS-RequestId"] != append.headers["MS-RequestId"]
    assert unheard.body == again.body
    assert corner.results[0]["data"]["requestId"] == append.headers["MS-RequestId"]
    assert len(corner.results) == 1


def test_a_creation_accepted_unheard_is_repeated_as_one_where_a_person_sets_it_going(corner: Corner) -> None:
    """The batch that the list shows by then is its own."""
    with fault(corner, accept_then_reset(), "POST deviceBatches", times=None):
        path = corner.deliver("a.csv", tuples(2))
    going = corner.intake.ledger.set_going(corner.key(path))
    assert going
    corner.intake.resume(json.dumps({"key": corner.key(path), "nonce": going.nonce}))

    assert len({p.headers["MS-RequestId"] for p in corner.posts}) == 1
    assert len(corner.batches["Standard"]) == 2
    assert len(corner.results) == 1


def test_an_answer_that_comes_too_late_is_asked_for_again(corner: Corner) -> None:
    """Accepted, and the client had given up by then: the repeat has the same id, and adds nothing."""
    with httpx.Client(timeout=2) as http, fault(corner, slow(3), "POST deviceBatches", times=1):
        auth = BearerAuth(corner.services().token_life.tokens, corner.cloud.partner_center.url)
        partner_center = PartnerCenter(corner.cloud.partner_center.url, auth, http=http)
        replace(corner.intake, partner_center=partner_center).receive(corner.drop("a.csv", tuples(2)))

    assert len({p.headers["MS-RequestId"] for p in corner.posts}) == 1
    assert len(corner.posts) >= 2
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert len(corner.results) == 1


def test_a_storm_is_weathered(corner: Corner) -> None:
    """Half of all calls are throttled, and some parks and wake-ups later all is sent, each request once."""
    with fault(corner, Fault(reply=respond(429).reply, fraction=0.5), "* *", times=None):
        for n in range(5):
            corner.deliver(f"{n}.csv", tuples(2, start=n * 10))
        for _ in range(20):
            if len(corner.results) < 5:
                corner.wake()

    assert len(corner.results) == 5
    assert len([p for p in corner.posts if p.status == 202]) == 5
    assert len(corner.batches["Standard"]) == 10


def test_a_refused_connection_is_waited_out(corner: Corner) -> None:
    """Partner Center is not there at all."""
    corner.cloud.partner_center.stop()
    try:
        path = corner.deliver("a.csv", tuples(2))
    finally:
        corner.cloud.partner_center.start()
    assert corner.report(path)["state"] == "waiting"
    assert corner.wake() == 1
    assert len(corner.results) == 1


@pytest.mark.parametrize("kind", MISSING_MFA)
def test_missing_mfa_is_told_at_once_in_each_of_its_shapes(lone: Corner, kind: str) -> None:
    """Another token of the same consent would lack it too: none is asked for."""
    exchanges = len(lone.cloud.entra.exchanges)
    with fault(lone, MISSING_MFA[kind], "GET deviceBatches", times=None):
        lone.deliver("a.csv", tuples(2))
    assert [a["data"]["problem"] for a in lone.alerts] == ["mfa-required"]
    assert len(lone.calls) == 1
    assert len(lone.cloud.entra.exchanges) == exchanges + 1
    assert lone.wake() == 1
    assert len(lone.results) == 1


@pytest.mark.parametrize("kind", [MISSING_MFA["900421"], respond(403)], ids=["MFA", "403"])
def test_a_new_consent_is_gone_by_at_the_next_probe(lone: Corner, kind: Fault) -> None:
    """The worker's token of the old one would be good for an hour yet."""
    with fault(lone, kind, "GET deviceBatches", times=None):
        lone.same_services(timedelta(0)).intake.receive(lone.drop("a.csv", tuples(2)))
    assert len(lone.alerts) == 1
    consented = lone.cloud.entra.new_refresh_token()
    lone.cloud.key_vault.set_secret("partner-refresh-token", consented)
    sweep(lone, timedelta(minutes=10), lone.same_services(timedelta(minutes=10)))
    assert lone.cloud.entra.exchanges[-1].refresh_token == consented
    assert len(lone.results) == 1


def test_a_customer_who_refuses_all_costs_no_token_a_manifest(lone: Corner) -> None:
    """Entra stops an app that asks in a loop (AADSTS50196), and with it the manifests of all."""
    intake, exchanges = lone.same_services(timedelta(0)).intake, len(lone.cloud.entra.exchanges)
    with fault(lone, respond(403), "GET deviceBatches", times=None):
        for count in (1, 2, 3):
            intake.receive(lone.drop(f"{count}.csv", tuples(count)))
    assert len(lone.calls) == 3
    assert len(lone.cloud.entra.exchanges) == exchanges + 1


def test_a_401_for_ever_costs_one_fresh_token(lone: Corner) -> None:
    """Then it is the operator's."""
    exchanges = len(lone.cloud.entra.exchanges)
    with fault(lone, respond(401, {"code": "1000"}), "GET deviceBatches", times=None):
        lone.deliver("a.csv", tuples(2))
    assert [a["data"]["problem"] for a in lone.alerts] == ["partner-center-unauthorized"]
    assert len(lone.calls) == 2
    assert len(lone.cloud.entra.exchanges) == exchanges + 2
    assert lone.wake() == 1
    assert len(lone.results) == 1


@pytest.mark.parametrize("on", ["GET deviceBatches", "POST deviceBatches"])
@pytest.mark.parametrize("kind", FORBIDDEN)
def test_forbidden_is_told_in_each_of_its_shapes(corner: Corner, kind: str, on: str) -> None:
    """The operator's, for this customer; what the page says is of no use to anybody."""
    with fault(corner, FORBIDDEN[kind], on, times=1):
        corner.deliver("a.csv", tuples(2))
    (alert,) = corner.alerts
    assert alert["data"]["problem"] == "partner-center-forbidden"
    assert alert["data"]["about"] == corner.customer
    assert "html" not in alert["data"]["advice"].lower()
    assert not corner.rejections
    assert corner.wake() == 1
    assert len(corner.results) == 1
    assert [a["type"].rpartition(".")[2] for a in corner.alerts] == ["action-needed", "resolved"]


def test_an_append_to_a_batch_that_is_not_there_waits_for_it(corner: Corner) -> None:
    """Partner Center lists a batch, or has just accepted it, and does not find it yet."""
    corner.cloud.partner_center.add_batch(corner.customer, "Standard")
    with fault(corner, respond(404, {"code": "800001"}), "POST deviceBatches/Standard/devices", times=None):
        path = corner.deliver("a.csv", tuples(2))
        assert corner.report(path)["state"] == "waiting"
    assert not corner.rejections
    assert corner.wake() == 1
    assert len(corner.batches["Standard"]) == 2


def test_a_list_without_end_is_none(corner: Corner) -> None:
    """It is not held, whatever its beginning says, and asked for again."""
    endless = respond(200, b'{"totalCount": 0, "items": []}' + b" " * LARGEST_ANSWER)
    with fault(corner, endless, "GET deviceBatches", times=1):
        corner.deliver("a.csv", tuples(2))
    assert [c.method for c in corner.calls] == ["GET", "GET", "POST"]
    assert len(corner.batches["Standard"]) == 2


def test_what_the_head_says_was_accepted_is_not_sent_again(corner: Corner) -> None:
    """Whatever its body is: it breaks off, or has no end."""
    endless = respond(202, b"x" * (LARGEST_ANSWER + 1), {"Location": "/customers/x"})
    with fault(corner, endless, "POST deviceBatches", times=1):
        corner.deliver("a.csv", tuples(2))
    assert len(corner.posts) == 1
    assert [e["data"]["location"] for e in corner.results] == ["/customers/x"]


def test_an_answer_that_nobody_can_unpack_has_a_location_all_the_same(corner: Corner) -> None:
    """None was asked for in gzip."""
    packed = respond(202, b"no gzip", {"Location": "/customers/x", "Content-Encoding": "gzip"})
    with fault(corner, packed, "POST deviceBatches", times=None):
        corner.deliver("a.csv", tuples(2))
    assert [e["data"]["location"] for e in corner.results] == ["/customers/x"]


def test_a_list_that_cannot_be_read_is_asked_for_again(corner: Corner) -> None:
    """A page with 200 from something in between."""
    with fault(corner, respond(200, PAGE, {"Content-Type": "text/html"}), "GET deviceBatches", times=1):
        corner.deliver("a.csv", tuples(2))
    assert len(corner.batches["Standard"]) == 2
