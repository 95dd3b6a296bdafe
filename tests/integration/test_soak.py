"""A small soak; `make soak` is the long one."""

from tests.soak import Soak


def test_every_manifest_is_accounted_for() -> None:
    """Servers fail at random, workers are killed: nothing is lost, nothing recorded is posted again."""
    soak = Soak(8, speed=60)
    assert soak.run(seconds=240) == []
    assert soak.kills
    assert "failed" in soak.figures()
