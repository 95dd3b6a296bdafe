"""The process is killed at every step between two I/O operations; a redelivery must bring the manifest home."""

import json
import signal
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from local.simulators.faults import respond
from shared.ledger import TERM
from tests.integration.conftest import Corner, Die, sweep
from tests.integration.test_intake import serials, tuples

SHARES = 4  # of the steps, each a test of its own, so that they can run side by side


type Follow = Callable[[Corner, str], None]


def redeliver(corner: Corner, path: str) -> None:
    """The host, or a sweep, comes again when the dead one's claim is over."""
    corner.at(TERM + timedelta(seconds=5)).receive(path)


def every_step(
    die: Die, new: Callable[[], tuple[Corner, str]], share: int, follow: Follow = redeliver, call: str = "receive"
) -> Iterator[tuple[Corner, str]]:
    """Corners in which one manifest's process died, each at another step and the first at none, and what followed."""
    corner, argument = new()
    steps = die(corner, argument, 0, call)
    assert steps > 8
    follow(corner, argument)
    yield corner, argument
    for step in range(1 + share, steps + 1, SHARES):
        corner, argument = new()
        assert die(corner, argument, step, call) == -signal.SIGKILL
        follow(corner, argument)
        yield corner, argument


def told_once_or_the_same_again(texts: list[str]) -> list[str]:
    """The messages' ids; one that came again must be the same to the byte."""
    by_id: dict[str, str] = {}
    for text in texts:
        assert by_id.setdefault(json.loads(text)["id"], text) == text
    return list(by_id)


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("exists", [False, True], ids=["new batch", "existing batch"])
def test_a_manifest_survives_death_at_every_step(
    die: Die, new_corner: Callable[..., Corner], share: int, exists: bool
) -> None:
    """Each device arrives once, each request has one id, each message is said, and the report is final."""

    def new() -> tuple[Corner, str]:
        corner = new_corner(DEVICES_PER_REQUEST="2")
        if exists:
            corner.cloud.partner_center.add_batch(corner.customer, "Standard")
        return corner, corner.drop("a.csv", tuples(3))

    for corner, path in every_step(die, new, share):
        assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]
        assert len({p.headers["MS-RequestId"] for p in corner.posts if p.status == 202}) == 2
        assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 2
        assert {e["data"]["location"] for e in corner.results} == {p.location for p in corner.posts if p.location}
        assert corner.report(path)["state"] == "submitted"
        assert not corner.alerts


@pytest.mark.parametrize("share", range(SHARES))
def test_a_rejection_survives_death_at_every_step(die: Die, new_corner: Callable[..., Corner], share: int) -> None:
    """The sender is told, and nothing is sent."""

    def new() -> tuple[Corner, str]:
        corner = new_corner()
        return corner, corner.drop("a.csv", b"colour\nred\n")

    for corner, path in every_step(die, new, share):
        assert len(told_once_or_the_same_again(corner.texts("REJECTION_QUEUE"))) == 1
        assert corner.report(path)["verdict"] == "rejected"
        assert not corner.posts


@pytest.mark.parametrize("share", range(SHARES))
def test_a_duplicate_survives_death_at_every_step(die: Die, new_corner: Callable[..., Corner], share: int) -> None:
    """It stays a duplicate, and its answer is one."""

    def new() -> tuple[Corner, str]:
        corner = new_corner()
        corner.deliver("first.csv", tuples(2))
        return corner, corner.drop("second.csv", tuples(2))

    for corner, path in every_step(die, new, share):
        assert len(corner.posts) == 1
        assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 2
        assert corner.report(path)["verdict"] == "duplicate"


class Problem:
    """What stops the work, until it is over."""

    def __init__(self, corner: Corner, kind: str) -> None:
        self.cloud = corner.cloud
        self.is_operators = kind == "dead token"

    def begins(self) -> None:
        if self.is_operators:
            self.cloud.entra.refuse(700082)
        else:
            self.cloud.partner_center.faults.add(respond(429, headers={"Retry-After": "60"}, on="POST *", times=99))

    def ends(self) -> None:
        self.cloud.entra.refuse(None)
        self.cloud.partner_center.faults.clear()


def comes_home_by_sweeps(corner: Corner, _: str) -> None:
    """Sweeps, until there is nothing to do: at most three."""
    for n in range(1, 4):
        sweep(corner, timedelta(minutes=10 * n))
        now = corner.at(timedelta(0))
        if all(state.done for _, state in now.ledger.states()) and not now.alerts.open():
            return


def assert_home(corner: Corner, *, was_told: bool) -> None:
    """Sent with one id, told once, and every alert taken back."""
    assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001"]
    assert len({p.headers["MS-RequestId"] for p in corner.posts}) == 1
    assert 1 <= len([p for p in corner.posts if p.status == 202]) <= 2
    assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 1
    kinds = [a["type"].rpartition(".")[2] for a in corner.alerts]
    if kinds or was_told:
        assert kinds[-1] == "resolved"
    assert not corner.at(timedelta(0)).alerts.open()


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("is_operators", [False, True], ids=["throttled", "dead token"])
def test_parking_survives_death_at_every_step(die: Die, lone: Corner, is_operators: bool, share: int) -> None:
    """The process dies while it parks the manifest and tells the operators; then the cause ends, and sweeps follow."""

    def new() -> tuple[Corner, str]:
        if is_operators:
            lone.cloud.entra.refuse(700082)
        else:
            throttled = respond(429, headers={"Retry-After": "60"}, on="POST *", times=None)
            lone.cloud.partner_center.faults.add(throttled)
        corner = Corner(lone.cloud)
        return corner, corner.drop("a.csv", tuples(2))

    def follow(corner: Corner, path: str) -> None:
        was_told = bool(corner.alerts)
        lone.cloud.entra.refuse(None)
        lone.cloud.partner_center.faults.clear()
        comes_home_by_sweeps(corner, path)
        assert_home(corner, was_told=was_told)

    for corner, path in every_step(die, new, share, follow):
        assert corner.report(path)["state"] == "submitted"


@pytest.mark.parametrize("share", range(SHARES))
def test_going_on_survives_death_at_every_step(die: Die, lone: Corner, share: int) -> None:
    """The process dies while it goes on with a parked manifest and takes the alert back; sweeps follow."""

    def new() -> tuple[Corner, str]:
        lone.cloud.entra.refuse(700082)
        corner = Corner(lone.cloud)
        corner.deliver("a.csv", tuples(2))
        lone.cloud.entra.refuse(None)
        (wake_up,) = corner.wake_ups()
        return corner, wake_up

    for corner, _ in every_step(die, new, share, comes_home_by_sweeps, "resume"):
        assert_home(corner, was_told=True)
