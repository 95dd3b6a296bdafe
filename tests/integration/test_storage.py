"""The storage account as it fails in the field: answers lost on the way back, outages, restarts, requests that hang."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from local.cloud import LocalCloud
from local.simulators.faults import Fault, accept_then_reset
from tests.integration.conftest import Corner, gated
from tests.integration.test_crashes import told_once_or_the_same_again
from tests.integration.test_intake import serials, tuples


def at_each_call(cloud: LocalCloud, service: str, fault: Callable[[int], Fault]) -> Iterator[tuple[Corner, str]]:
    """Intakes, each of which met a fault at another of its calls to this service."""
    with gated(cloud) as one:
        one.corner.deliver("a.csv", tuples(3))
        calls = len(getattr(one, service).requests)
    assert calls >= (10 if service == "blobs" else 1)

    def meet(call: int) -> tuple[Corner, str]:
        with gated(cloud) as one:
            gateway = getattr(one, service)
            gateway.faults.add(fault(call))
            path = one.corner.deliver("a.csv", tuples(3))
            assert not gateway.faults.left
            return one.corner, path

    with ThreadPoolExecutor(8) as pool:
        yield from pool.map(meet, range(calls))


@pytest.mark.parametrize("service", ["blobs", "queues"])
def test_a_lost_answer_of_storage_is_not_taken_for_a_stranger(cloud: LocalCloud, service: str) -> None:
    """The client repeats the call, and is told that somebody was there first: that was itself."""
    for corner, path in at_each_call(cloud, service, lambda call: accept_then_reset(after=call)):
        assert serials(corner.batches["Standard"]) == ["SN-00000", "SN-00001", "SN-00002"]
        assert len(corner.posts) == 1
        assert len(told_once_or_the_same_again(corner.texts("RESULT_QUEUE"))) == 1
        assert corner.report(path)["state"] == "submitted"
        assert not corner.wake_ups()
        assert not corner.alerts
