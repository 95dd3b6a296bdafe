"""The process is killed at every step between two I/O operations; a redelivery or sweeps bring the manifest home."""

import json
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from azure.core.exceptions import ResourceNotFoundError

from local.cloud import LocalCloud
from local.simulators.faults import respond
from shared.intake import STALLED_AFTER, TOLD_AFTER
from shared.ledger import TERM
from tests.conftest import new_cloud
from tests.integration.conftest import Corner, Die, sweep
from tests.integration.test_intake import serials, tuples
from tests.integration.test_tokens import stored, versions

SHARES = 2  # of the steps, each a test of its own, so that they can run side by side
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)

type New = Callable[[], tuple[Corner, str]]
type Follow = Callable[[Corner, str], None]

shared_out = pytest.mark.parametrize("share", range(SHARES))


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """Storage of its own."""
    with new_cloud() as cloud:
        yield cloud


@pytest.fixture
def next_corner(cloud: LocalCloud) -> Callable[..., Corner]:
    """A corner with nothing else in its cloud: what the one before it left would only be listed again and again."""

    def make(**settings: str) -> Corner:
        for name in ("intake-ledger", "manifests"):
            with suppress(ResourceNotFoundError):
                cloud.blob_service().delete_container(name)
        cloud.blob_service().create_container("manifests")
        with suppress(ResourceNotFoundError):
            cloud.queue_service().get_queue_client("intake-retries").clear_messages()
        return Corner(cloud, settings=settings)

    return make


def redelivered(corner: Corner, path: str) -> None:
    """The host comes again when the dead one's claim is over."""
    corner.same_services(TERM + timedelta(seconds=5)).intake.receive(path)


def swept(corner: Corner, _: str, after: timedelta = timedelta(0)) -> None:
    """Sweeps, until there is nothing to do: at most three."""
    for n in range(1, 4):
        later = after + 10 * n * MINUTE
        sweep(corner, later, corner.same_services(later))
        if all(state.done for _, state in corner.intake.ledger.states()) and not corner.intake.alerts.open():
            return


def every_step(
    die: Die,
    new: New,
    share: int,
    *follow: Follow,
    call: str = "intake.receive",
    after: timedelta = timedelta(0),
) -> Iterator[tuple[Corner, str]]:
    """Corners in which a process died, each at another step and the first at none, and what followed, by turns."""
    corner, argument = new()
    steps = die(corner, argument, 0, call, after)
    assert steps > 8
    follow[0](corner, argument)
    yield corner, argument
    for step in range(1 + share, steps + 1, SHARES):
        corner, argument = new()
        died = die(corner, argument, step, call, after)
        assert died == -signal.SIGKILL or 8 < died < step  # one run may have a step less than another
        posts, recorded = len(corner.posts), recorded_ids(corner)
        follow[step // SHARES % len(follow)](corner, argument)
        assert not recorded & {p.headers["MS-RequestId"] for p in corner.posts[posts:]}
        assert_sent_as_planned(corner)
        yield corner, argument


def recorded_ids(corner: Corner) -> set[str]:
    """The ids of the requests whose answers are in the ledger."""
    ledger = corner.intake.ledger
    outcomes = (o for key, _ in ledger.states() for o in ledger.outcomes(key).values())
    return {json.loads(o.text)["data"].get("requestId", "") for o in outcomes}


def assert_sent_as_planned(corner: Corner) -> None:
    """Requests with one id are the same to the byte; one may have been carried out unheard, and then once more."""
    assert len({(p.headers["MS-RequestId"], p.path, p.body) for p in corner.posts}) == len(
        {p.headers["MS-RequestId"] for p in corner.posts}
    )
    accepted = Counter(p.headers["MS-RequestId"] for p in corner.posts if p.status == 202)
    assert sum(accepted.values()) <= len(accepted) + 1


def told_once_or_the_same_again(texts: list[str]) -> list[str]:
    """The messages' ids; one that came again must be the same to the byte."""
    by_id: dict[str, str] = {}
    for text in texts:
        assert by_id.setdefault(json.loads(text)["id"], text) == text
    return list(by_id)


@shared_out
@pytest.mark.parametrize("kind", ["new batch", "existing batch", "ids forgotten"])
def test_a_manifest_survives_death_at_every_step(
    die: Die, next_corner: Callable[..., Corner], share: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each request arrives, with one id, each message is said, and the report is final.

    Where Partner Center forgot the id, a creation that was carried out unheard is answered 409 and appended, once.
    """

    def new() -> tuple[Corner, str]:
        corner = next_corner(DEVICES_PER_REQUEST="2")
        monkeypatch.setattr(corner.cloud.partner_center, "remembers_request_ids", kind != "ids forgotten")
        if kind == "existing batch":
            corner.cloud.partner_center.add_batch(corner.customer, "Standard")
        return corner, corner.drop("a.csv", tuples(3))

    for corner, path in every_step(die, new, share, redelivered, swept):
        arrived = Counter(serials(corner.batches["Standard"]))
        assert sorted(arrived) == ["SN-00000", "SN-00001", "SN-00002"]
        assert arrived.total() <= (5 if kind == "ids forgotten" else 3)
        assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 2
        assert {e["data"]["location"] for e in corner.results} <= {p.location for p in corner.posts}
        assert corner.report(path)["state"] == "submitted"
        assert not corner.alerts


@shared_out
def test_a_rejection_survives_death_at_every_step(die: Die, next_corner: Callable[..., Corner], share: int) -> None:
    """The sender is told, and nothing is sent."""

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        return corner, corner.drop("a.csv", b"colour\nred\n")

    for corner, path in every_step(die, new, share, redelivered, swept):
        assert len(told_once_or_the_same_again(corner.texts("REJECTION_QUEUE"))) == 1
        assert corner.report(path)["verdict"] == "rejected"
        assert not corner.posts


@shared_out
def test_a_duplicate_survives_death_at_every_step(die: Die, next_corner: Callable[..., Corner], share: int) -> None:
    """It stays a duplicate, and its answer is one."""

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        corner.deliver("first.csv", tuples(2))
        return corner, corner.drop("second.csv", tuples(2))

    for corner, path in every_step(die, new, share, redelivered, swept):
        assert len(corner.posts) == 1
        assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 2
        assert corner.report(path)["verdict"] == "duplicate"


@shared_out
def test_a_duplicate_that_goes_after_all_survives_death_at_every_step(
    die: Die, next_corner: Callable[..., Corner], share: int
) -> None:
    """The first was refused while the duplicate waited for its end: every message of both is said."""

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        throttle(corner, times=1)
        corner.deliver("first.csv", tuples(2))
        (first,) = corner.wake_ups()
        corner.deliver("second.csv", tuples(2))
        (second,) = {*corner.wake_ups()} - {first}
        refusal = respond(400, {"code": "3000", "description": "no"}, on=f"POST */{corner.customer}/*")
        corner.cloud.partner_center.faults.add(refusal)
        corner.intake.resume(first)
        return corner, second

    for corner, _ in every_step(die, new, share, swept, call="intake.resume"):
        assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
        assert len(corner.rejections) == 1
        assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 2
        report = corner.report(f"{corner.folder}/second.csv")
        assert (report["state"], report["verdict"]) == ("submitted", "accepted")


def throttle(corner: Corner, times: int | None = None) -> None:
    """Long enough that the manifest is parked at once."""
    on = f"* */{corner.customer}/*"
    corner.cloud.partner_center.faults.add(respond(429, headers={"Retry-After": "60"}, on=on, times=times))


def over(corner: Corner) -> None:
    """Whatever stopped the work."""
    corner.cloud.entra.refuse(None)
    corner.cloud.partner_center.faults.clear()


def said(corner: Corner) -> list[tuple[str, str]]:
    return [(a["type"].rpartition(".")[2], a["data"]["problem"]) for a in corner.alerts]


def assert_home(corner: Corner, *, was_told: bool) -> None:
    """Sent with one id, told once, and every alert taken back."""
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert len({p.headers["MS-RequestId"] for p in corner.posts}) == 1
    assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 1
    assert len(told_once_or_the_same_again(corner.texts("ALERT_QUEUE"))) >= was_told
    if corner.alerts:
        assert said(corner)[-1][0] == "resolved"
    assert not corner.intake.alerts.open()


@shared_out
@pytest.mark.parametrize("is_operators", [False, True], ids=["throttled", "dead token"])
def test_parking_survives_death_at_every_step(
    die: Die, next_corner: Callable[..., Corner], is_operators: bool, share: int
) -> None:
    """The process dies while it parks the manifest and tells the operators; then the cause ends, and sweeps follow."""

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        if is_operators:
            corner.cloud.entra.refuse(700082)
        else:
            throttle(corner)
        return corner, corner.drop("a.csv", tuples(2))

    def follow(corner: Corner, path: str) -> None:
        was_told = bool(corner.alerts)
        over(corner)
        swept(corner, path)
        assert_home(corner, was_told=was_told)

    for corner, path in every_step(die, new, share, follow):
        assert corner.report(path)["state"] == "submitted"


@shared_out
def test_going_on_survives_death_at_every_step(die: Die, next_corner: Callable[..., Corner], share: int) -> None:
    """The process dies while it goes on with a parked manifest and takes the alert back; sweeps follow."""

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        corner.cloud.entra.refuse(700082)
        corner.deliver("a.csv", tuples(2))
        over(corner)
        (wake_up,) = corner.wake_ups()
        return corner, wake_up

    for corner, _ in every_step(die, new, share, swept, call="intake.resume"):
        assert_home(corner, was_told=True)


def throttled(corner: Corner) -> tuple[Corner, str]:
    """A manifest that is parked for nobody's fault, and its wake-up."""
    throttle(corner)
    corner.deliver("a.csv", tuples(2))
    (wake_up,) = corner.wake_ups()
    return corner, wake_up


@shared_out
def test_four_hours_survive_death_at_every_step(die: Die, next_corner: Callable[..., Corner], share: int) -> None:
    """The process dies while it tells of an outage that has lasted for long; operators hear of it, and of its end."""
    after = TOLD_AFTER + MINUTE

    def follow(corner: Corner, wake_up: str) -> None:
        swept(corner, wake_up, after)
        assert ("action-needed", "service-unavailable") in said(corner)
        over(corner)
        swept(corner, wake_up, after + timedelta(hours=7))

    def new() -> tuple[Corner, str]:
        return throttled(next_corner())

    for corner, _ in every_step(die, new, share, follow, call="intake.resume", after=after):
        assert_home(corner, was_told=True)


@shared_out
def test_stalling_survives_death_at_every_step(die: Die, next_corner: Callable[..., Corner], share: int) -> None:
    """The process dies while it gives a manifest up to a person, who hears of it and sets it going."""
    after = STALLED_AFTER + MINUTE

    def follow(corner: Corner, wake_up: str) -> None:
        swept(corner, wake_up, after)
        key = json.loads(wake_up)["key"]
        assert corner.intake.ledger.state(key).stalled
        assert {problem for _, problem in said(corner)} == {"manifest-stalled"}
        over(corner)
        going = corner.intake.ledger.set_going(key)
        assert going
        corner.intake.resume(json.dumps({"key": key, "nonce": going.nonce}))

    def new() -> tuple[Corner, str]:
        return throttled(next_corner())

    for corner, _ in every_step(die, new, share, follow, call="intake.resume", after=after):
        assert_home(corner, was_told=True)


@shared_out
def test_a_sweep_survives_death_at_every_step(die: Die, next_corner: Callable[..., Corner], share: int) -> None:
    """The next ones do what it left: the manifest without a record, the one without a holder, those that wait."""
    after = DAY + MINUTE  # the operators are to be reminded, too

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        die(corner, corner.drop("left.csv", tuples(2)), 10)
        corner.drop("unseen.csv", tuples(2, start=10))
        corner.cloud.entra.refuse(700082)
        corner.deliver("waits.csv", tuples(2, start=20))
        return corner, ""

    def follow(corner: Corner, _: str) -> None:
        over(corner)
        swept(corner, "", after)

    for corner, _ in every_step(die, new, share, follow, call="sweep.run", after=after):
        assert len({*serials(corner.batches["Standard"])}) == len(corner.batches["Standard"]) == 6
        assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 3
        assert {*said(corner)} == {("action-needed", "consent-needed"), ("resolved", "consent-needed")}
        assert len(told_once_or_the_same_again(corner.texts("ALERT_QUEUE"))) <= 4


@shared_out
def test_a_dead_token_s_alert_survives_death_at_every_step(
    die: Die, next_corner: Callable[..., Corner], share: int
) -> None:
    """The process dies at its daily look; operators are told all the same, and hear when it is over."""

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        corner.cloud.entra.refuse(50173)
        return corner, ""

    def follow(corner: Corner, _: str) -> None:
        corner.same_services(DAY).token_life.keep()
        swept(corner, "", DAY)
        assert ("action-needed", "consent-needed") in said(corner)
        over(corner)
        corner.same_services(DAY).token_life.keep()

    for corner, _ in every_step(die, new, share, follow, call="token_life.keep"):
        assert said(corner)[-1] == ("resolved", "consent-needed")
        told_once_or_the_same_again(corner.texts("ALERT_QUEUE"))
        assert not corner.intake.alerts.open()


@shared_out
def test_the_token_s_renewal_survives_death_at_every_step(
    die: Die, next_corner: Callable[..., Corner], share: int
) -> None:
    """The rotated one is stored, then or the next day, and is good."""
    before: dict[str, int] = {}

    def new() -> tuple[Corner, str]:
        corner = next_corner()
        stored(corner, 8)
        before[corner.customer] = len(versions(corner))
        return corner, ""

    def follow(corner: Corner, _: str) -> None:
        corner.same_services(DAY).token_life.keep()
        corner.deliver("a.csv", tuples(1))

    for corner, _ in every_step(die, new, share, follow, call="token_life.keep"):
        assert len(versions(corner)) == before[corner.customer] + 1
        assert len(corner.results) == 1
        assert not corner.alerts
