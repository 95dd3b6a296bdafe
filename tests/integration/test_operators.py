"""Operators are told of what they alone can end: once a problem, daily, and when it is over. Nothing is lost by it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from local.simulators.faults import accept_then_reset, respond
from shared.sweep import GRACE
from tests.integration.conftest import Corner, gated, sweep
from tests.integration.test_intake import DUPLICATE, serials, tuples

DAY = timedelta(days=1)


def dead_token(corner: Corner, manifests: int) -> list[str]:
    """So many manifests, dropped while the refresh token is dead."""
    corner.cloud.entra.refuse(700082)
    return [corner.deliver(f"{n}.csv", tuples(2, start=n * 10)) for n in range(manifests)]


def said(corner: Corner) -> list[tuple[str, str]]:
    return [(a["type"].removeprefix("io.autopilotdrop.operator."), a["data"]["problem"]) for a in corner.alerts]


def exchanges(corner: Corner) -> int:
    return len([r for r in corner.cloud.entra.requests if r.method == "POST"])


def states(corner: Corner) -> list[dict[str, str]]:
    container = corner.cloud.blob_service().get_container_client("intake-ledger")
    return [b.metadata for b in container.list_blobs(name_starts_with="uploads/", include=["metadata"])]


def test_one_alert_and_one_probe_for_all_that_wait(lone: Corner) -> None:
    """Each first delivery tries; after that one manifest asks for all, each time another, and nobody is told again."""
    dead_token(lone, 3)
    assert said(lone) == [("action-needed", "consent-needed")]
    assert lone.alerts[0]["data"]["waitingCount"] == 1

    before = exchanges(lone)
    probes = [sweep(lone, timedelta(minutes=10 * n)) for n in range(1, 4)]
    assert [len(p) for p in probes] == [1, 1, 1]
    assert len({json.loads(p[0])["key"] for p in probes}) == 3
    assert exchanges(lone) - before == 3
    assert len(lone.alerts) == 1
    assert not lone.calls


def test_when_it_is_over_it_is_said_and_all_goes_on(lone: Corner) -> None:
    """The probe that gets through takes the alert back and wakes the others: one sweep after the end all is sent."""
    paths = dead_token(lone, 3)
    lone.cloud.entra.refuse(None)
    assert len(sweep(lone, timedelta(minutes=10))) == 1

    assert said(lone) == [("action-needed", "consent-needed"), ("resolved", "consent-needed")]
    assert len(lone.batches["Standard"]) == 6
    assert {lone.report(path)["state"] for path in paths} == {"submitted"}
    assert all(s.get("done") for s in states(lone))
    assert not sweep(lone, DAY * 3)
    assert len(lone.alerts) == 2


def test_each_is_woken_once_when_it_is_over(lone: Corner) -> None:
    """By the one that took the alert back; where each woke all that are left, a hundred would be five thousand."""
    dead_token(lone, 6)
    lone.cloud.entra.refuse(None)
    services = lone.services(timedelta(minutes=10))
    services.sweep.run()
    woken = []
    while some := lone.carry_out(services.intake):
        woken += some

    assert len(lone.results) == 6
    assert len(woken) == 6


def test_a_redelivery_does_not_ask(lone: Corner) -> None:
    """Event Grid says it again; the manifest waits for the problem's end as before."""
    (path,) = dead_token(lone, 1)
    before = exchanges(lone)
    lone.intake.receive(path)
    assert exchanges(lone) == before


def test_the_alert_is_repeated_daily_and_names_what_waits(lone: Corner) -> None:
    """The same problem since the same moment, another message."""
    dead_token(lone, 2)
    sweep(lone, timedelta(hours=23))
    assert len(lone.alerts) == 1
    sweep(lone, timedelta(hours=25))
    sweep(lone, timedelta(hours=26))

    first, second = lone.alerts
    assert first["id"] != second["id"]
    assert first["data"]["since"] == second["data"]["since"]
    assert {m["name"] for m in second["data"]["waiting"]} == {f"{lone.folder}/{n}.csv" for n in range(2)}
    assert second["data"]["waitingCount"] == 2


def test_of_two_sweeps_at_once_one_repeats_the_alert(lone: Corner) -> None:
    """Both found it a day old; one takes the turn."""
    dead_token(lone, 1)
    alerts = lone.services(DAY + timedelta(minutes=1)).sweep.alerts
    found = alerts.open()["consent-needed"]
    for _ in range(2):
        alerts.remind("consent-needed", found, list, 1)
    assert len(lone.alerts) == 2


def test_an_operator_s_fault_is_waited_out_however_long_it_lasts(lone: Corner) -> None:
    """A month later nothing is stalled, and all goes on by itself."""
    paths = dead_token(lone, 2)
    sweep(lone, DAY * 30)
    assert {problem for _, problem in said(lone)} == {"consent-needed"}

    lone.cloud.entra.refuse(None)
    sweep(lone, DAY * 30 + timedelta(minutes=10))
    assert {lone.report(path)["state"] for path in paths} == {"submitted"}
    assert said(lone)[-1] == ("resolved", "consent-needed")


def test_an_alert_that_was_not_sent_is_made_up_for(lone: Corner) -> None:
    """Whoever found the problem died, or met a queue that was down, before the operators were told."""
    dead_token(lone, 1)
    lone.cloud.queue_service().get_queue_client(lone.queues["ALERT_QUEUE"]).clear_messages()
    container = lone.cloud.blob_service().get_container_client("intake-ledger")
    problem = container.get_blob_client("problems/consent-needed")
    metadata = problem.get_blob_properties().metadata
    problem.set_blob_metadata({k: v for k, v in metadata.items() if k != "told"})

    sweep(lone, timedelta(minutes=4))
    assert not lone.alerts
    sweep(lone, timedelta(minutes=10))
    assert said(lone) == [("action-needed", "consent-needed")]


def test_an_alert_is_said_at_once_although_storage_s_answer_was_lost(lone: Corner) -> None:
    """The client's repeat found the problem's record there: that was itself, and nobody else tells of it."""
    with gated(lone.cloud) as one:
        one.blobs.faults.add(accept_then_reset(on="PUT */problems/*"))
        dead_token(one.corner, 1)
        assert said(one.corner) == [("action-needed", "consent-needed")]


def test_each_customer_s_missing_role_is_a_problem_of_its_own(lone: Corner) -> None:
    """One customer's GDAP role is missing; another's manifests go on."""
    lone.cloud.partner_center.faults.add(respond(403, {"code": "2032"}, on=f"*/{lone.customer}/*", times=2))
    lone.deliver("a.csv", tuples(1))
    other = Corner(lone.cloud)
    other.deliver("b.csv", tuples(1))
    assert len(other.results) == 1
    assert [(a["data"]["problem"], a["data"]["about"]) for a in lone.alerts] == [
        ("partner-center-forbidden", lone.customer)
    ]

    sweep(lone, timedelta(minutes=10))
    assert len(lone.alerts) == 1
    sweep(lone, timedelta(minutes=20))
    assert said(lone)[1:] == [("resolved", "partner-center-forbidden")]
    assert len(lone.results) == 1


def test_a_refusal_shows_that_the_problem_is_over(lone: Corner) -> None:
    """Partner Center answered: the credentials work, whatever it thinks of the request."""
    dead_token(lone, 1)
    lone.cloud.entra.refuse(None)
    lone.cloud.partner_center.faults.add(respond(400, {"code": "3000"}, on="POST *"))
    sweep(lone, timedelta(minutes=10))
    assert said(lone) == [("action-needed", "consent-needed"), ("resolved", "consent-needed")]
    assert len(lone.rejections) == 1


def test_a_duplicate_does_not_show_that_the_problem_is_over(lone: Corner) -> None:
    """Its sender insisted while it waited, so that another sends its content: it asks Partner Center for nothing."""
    dead_token(lone, 1)
    lone.deliver("again.csv", tuples(2), {"resubmit": "true"})
    for n in range(1, 4):
        sweep(lone, timedelta(minutes=10 * n))
    assert DUPLICATE in {e["type"] for e in lone.results}
    assert said(lone) == [("action-needed", "consent-needed")]

    lone.cloud.entra.refuse(None)
    for n in range(4, 8):
        sweep(lone, timedelta(minutes=10 * n))
    assert said(lone)[1:] == [("resolved", "consent-needed")]
    assert all(s.get("done") for s in states(lone))


def test_a_probe_that_meets_an_outage_leaves_the_problem_open(lone: Corner) -> None:
    """Entra is down when it asks: that says nothing of the token."""
    dead_token(lone, 2)
    lone.cloud.entra.refuse(None)
    lone.cloud.entra.faults.add(respond(503, on="POST *", times=99))
    sweep(lone, timedelta(minutes=10))
    assert said(lone) == [("action-needed", "consent-needed")]

    lone.cloud.entra.faults.clear()
    sweep(lone, timedelta(minutes=30))
    assert said(lone)[1:] == [("resolved", "consent-needed")]
    assert len(lone.results) == 2


def test_four_hours_of_nobody_s_fault_are_an_alert(lone: Corner) -> None:
    """The work goes on trying; when it gets through, that is said too."""
    faults = lone.cloud.partner_center.faults
    faults.add(respond(503, on="*", times=99))
    lone.deliver("a.csv", tuples(2))
    after, tried = timedelta(0), 0
    while not lone.alerts:
        after += timedelta(minutes=10)
        tried += len(sweep(lone, after))
        assert after < timedelta(hours=9)
    assert timedelta(hours=4) <= after < timedelta(hours=5)
    assert 5 < tried < 12
    assert said(lone) == [("action-needed", "service-unavailable")]
    assert "503" in lone.alerts[0]["data"]["advice"]

    faults.clear()
    sweep(lone, after + timedelta(hours=7))
    assert said(lone)[1:] == [("resolved", "service-unavailable")]
    assert len(lone.results) == 1


def test_progress_starts_the_four_hours_anew(lone: Corner) -> None:
    """Three hours before the first request and two before the second are no alert; waits are short again."""
    lone.settings["DEVICES_PER_REQUEST"] = "1"
    faults = lone.cloud.partner_center.faults
    faults.add(respond(503, on="*", times=None))
    lone.deliver("a.csv", tuples(2))
    for hours in (1, 3):
        sweep(lone, timedelta(hours=hours))
    faults.clear()
    faults.add(respond(503, on="POST */devices", times=None))
    sweep(lone, timedelta(hours=3.5))
    assert len(lone.results) == 1
    assert states(lone)[0]["waits"] == "1"

    sweep(lone, timedelta(hours=5.5))
    assert not lone.alerts
    sweep(lone, timedelta(hours=8))
    assert said(lone) == [("action-needed", "service-unavailable")]


def test_what_alone_still_fails_when_the_rest_got_through_is_told_anew(lone: Corner) -> None:
    """Another took the alert back; four hours later there is one for this."""
    other = Corner(lone.cloud)
    lone.settings["CUSTOMERS"] = json.dumps(
        {c.folder: {"customerId": c.customer, "batchId": "A"} for c in (lone, other)}
    )
    faults = lone.cloud.partner_center.faults
    faults.add(respond(503, on="*", times=None))
    for corner in (lone, other):
        lone.intake.receive(corner.drop("a.csv", tuples(2)))
    for hours in (2, 5, 6):
        sweep(lone, timedelta(hours=hours))
    assert said(lone) == [("action-needed", "service-unavailable")]

    faults.clear()
    faults.add(respond(503, on=f"*/{lone.customer}/*", times=None))
    for hours in (12, 13):
        sweep(lone, timedelta(hours=hours))
    assert said(lone)[1:] == [("resolved", "service-unavailable")]
    sweep(lone, timedelta(hours=18))
    assert said(lone)[2:] == [("action-needed", "service-unavailable")]


def test_seven_days_of_nobody_s_fault_stall_it(lone: Corner) -> None:
    """It waits for a person then, who is reminded daily; no sweep starts it again, and no redelivery."""
    lone.cloud.partner_center.faults.add(respond(503, on="*", times=999))
    path = lone.deliver("a.csv", tuples(2))
    sweep(lone, timedelta(hours=5))
    sweep(lone, DAY * 7 + timedelta(minutes=5))
    assert said(lone)[-1] == ("action-needed", "manifest-stalled")
    assert "tools.intake resume" in lone.alerts[-1]["data"]["advice"]
    (state,) = states(lone)
    assert state["stalled"]

    lone.cloud.partner_center.faults.clear()
    calls = len(lone.calls)
    lone.at(DAY * 8).receive(path)
    assert not sweep(lone, DAY * 8 + timedelta(hours=1))
    assert len(lone.calls) == calls
    assert len([kind for kind, problem in said(lone) if problem == "manifest-stalled"]) == 2
    assert lone.report(path)["state"] == "waiting"


def test_what_nobody_could_be_told_of_is_not_stalled(lone: Corner) -> None:
    """Storage does not take the alert: no person would set it going again, so it is tried once more, and told then."""
    with gated(lone.cloud) as one:
        lone.cloud.partner_center.faults.add(respond(503, on="*", times=None))
        one.corner.deliver("a.csv", tuples(2))
        one.blobs.faults.add(respond(403, on="PUT */problems/manifest-stalled/*"))
        for minutes in (10, 20):
            sweep(one.corner, DAY * 7 + timedelta(minutes=minutes))
        assert said(one.corner)[-1] == ("action-needed", "manifest-stalled")


def test_an_alert_for_which_nobody_waits_any_more_is_taken_back(lone: Corner) -> None:
    """What waited for the four-hour alert is stalled by now, which is another matter."""
    lone.cloud.partner_center.faults.add(respond(503, on="*", times=999))
    lone.deliver("a.csv", tuples(2))
    sweep(lone, timedelta(hours=5))
    sweep(lone, DAY * 7 + timedelta(minutes=5))
    sweep(lone, DAY * 7 + timedelta(minutes=15))
    assert ("resolved", "service-unavailable") in said(lone)


@pytest.mark.parametrize("kind", ["blob", "queue"])
def test_storage_that_refuses_is_the_operators(lone: Corner, kind: str) -> None:
    """A container or a queue of ours was deleted: the manifest waits, and goes on when it is there again."""
    service: Any = lone.cloud.blob_service() if kind == "blob" else lone.cloud.queue_service()
    path = lone.drop("a.csv", tuples(2))
    assert lone.intake  # which creates what is missing
    ours = "manifest-reports" if kind == "blob" else lone.queues["RESULT_QUEUE"]
    delete, create = (
        getattr(service, f"{verb}_{'container' if kind == 'blob' else 'queue'}") for verb in ("delete", "create")
    )
    delete(ours)
    lone.intake.receive(path)
    assert said(lone) == [("action-needed", "storage-refused")]
    posts = len(lone.posts)
    assert posts == (0 if kind == "blob" else 1)

    create(ours)
    sweep(lone, timedelta(minutes=10))
    assert said(lone)[1:] == [("resolved", "storage-refused")]
    assert serials(lone.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert len(lone.results) == len(lone.posts) == 1


def test_a_duplicate_that_storage_refused_shows_when_it_does_so_no_more(lone: Corner) -> None:
    """Storage is all that it needs."""
    lone.deliver("a.csv", tuples(2))
    lone.cloud.queue_service().delete_queue(lone.queues["RESULT_QUEUE"])
    lone.deliver("b.csv", tuples(2))
    assert said(lone) == [("action-needed", "storage-refused")]

    lone.cloud.queue_service().create_queue(lone.queues["RESULT_QUEUE"])
    sweep(lone, timedelta(minutes=10))
    assert said(lone)[1:] == [("resolved", "storage-refused")]
    assert [e["type"] for e in lone.results] == [DUPLICATE]


def test_the_queue_of_wake_ups_is_made_anew(lone: Corner) -> None:
    """Somebody deleted it while the app runs: by it all that waits comes back, and each sweep would fail without."""
    dead_token(lone, 1)
    lone.cloud.entra.refuse(None)
    services = lone.services(timedelta(minutes=10))
    lone.cloud.queue_service().delete_queue("intake-retries")
    sweep(lone, timedelta(minutes=10), services)
    assert len(lone.results) == 1


def test_where_even_the_alert_cannot_be_sent_it_goes_on_trying(lone: Corner) -> None:
    """The alert queue is gone while the token is dead: the manifest comes back by itself, and tells then."""
    lone.cloud.entra.refuse(700082)
    path = lone.drop("a.csv", tuples(2))
    assert lone.intake
    lone.cloud.queue_service().delete_queue(lone.queues["ALERT_QUEUE"])
    lone.intake.receive(path)
    (state,) = states(lone)
    assert state["due"]

    lone.cloud.entra.refuse(None)
    sweep(lone, timedelta(minutes=2) + GRACE)
    assert len(lone.results) == 1
