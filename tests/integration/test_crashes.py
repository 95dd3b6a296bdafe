"""The process is killed at every step between two I/O operations; a redelivery must bring the manifest home."""

import json
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from shared import wiring
from shared.ledger import TERM
from tests.integration.conftest import Corner, Die
from tests.integration.test_intake import serials, tuples

SHARES = 4  # of the steps, each a test of its own, so that they can run side by side


def redeliver(corner: Corner, path: str) -> None:
    """The host, or a sweep, comes again when the dead one's claim is over."""
    after = TERM + timedelta(seconds=5)
    wiring.build(corner.environment, lambda: datetime.now(UTC) + after).receive(path)


def every_step(die: Die, new: Callable[[], tuple[Corner, str]], share: int) -> list[tuple[Corner, str]]:
    """Corners in which one manifest's process died, each at another step, and was followed by a redelivery."""
    corner, path = new()
    steps = die(corner, path, 0)
    assert steps > 8
    survivors = [(corner, path)]
    for step in range(1 + share, steps + 1, SHARES):
        corner, path = new()
        assert die(corner, path, step) == -signal.SIGKILL
        redeliver(corner, path)
        survivors.append((corner, path))
    return survivors


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
