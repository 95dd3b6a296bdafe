"""What host.json and a timer's schedule mean."""

from datetime import UTC, datetime, timedelta

import pytest

from local.triggers import AppError, HostSettings, Schedule, timespan

SUNDAY = datetime(2026, 11, 22, 10, 20, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    ["* * * * * *", "30 */10 * * * *", "30 20 9-11 * * *", "30 20 10 22 11 0", "0/15 5/5 1,10 1-22/7 * 0,6"],
)
def test_a_schedule_holds_its_moments(text: str) -> None:
    assert SUNDAY in Schedule.parse(text)


@pytest.mark.parametrize("text", ["31 * * * * *", "30 */11 * * * *", "30 20 10 * * 1-5", "30 20 10 22 1-10 *"])
def test_a_schedule_holds_no_other(text: str) -> None:
    assert SUNDAY not in Schedule.parse(text)


@pytest.mark.parametrize("text", ["", "* * * * *", "60 * * * * *", "* * * * * MON", "*/0 * * * * *", "5-1 * * * * *"])
def test_a_schedule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(AppError, match="schedule"):
        Schedule.parse(text)


def test_host_json_that_says_nothing_means_microsofts_defaults() -> None:
    settings = HostSettings.parse({"version": "2.0"})
    assert (settings.blob_attempts, settings.dequeue_limit, settings.batch_size) == (5, 5, 16)
    assert (settings.new_batch_threshold, settings.retry_after, settings.base64) == (8, timedelta(0), True)


@pytest.mark.parametrize(("text", "seconds"), [("00:05:00", 300), ("1.00:00:01", 86_401)])
def test_a_time_span_is_as_dotnet_writes_it(text: str, seconds: int) -> None:
    assert timespan(text).total_seconds() == seconds
