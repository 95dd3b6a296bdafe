"""What an app's functions listen to, checked as strictly as the Functions host does. Pure: no network.

The worker library passes through what only the host can judge: settings named `%LIKE_THIS%`, connections, a
blob trigger's source, a timer's schedule, host.json. On Azure each mistake there ends as "No job functions
found", so each is an AppError here, with its cause.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any


class AppError(Exception):
    """The host would not run this app; the text says why."""


@dataclass(frozen=True)
class BlobTrigger:
    connection: str
    container: str
    pattern: re.Pattern[str]
    event_grid: bool
    by_reference: bool
    """The parameter is an SDK type: it gets the blob's address, not its content."""

    def captures(self, name: str) -> dict[str, str] | None:
        """What the braces of the pattern stand for in this name; None where the pattern filters it out."""
        match = self.pattern.fullmatch(name)
        if match:
            return match.groupdict()
        return {} if self.event_grid else None  # there the subscription filters, not the pattern


@dataclass(frozen=True)
class QueueTrigger:
    connection: str
    queue: str


@dataclass(frozen=True)
class TimerTrigger:
    schedule: "Schedule"
    run_on_startup: bool


@dataclass(frozen=True)
class QueueOutput:
    connection: str
    queue: str


@dataclass(frozen=True)
class Function:
    id: str
    name: str
    parameter: str
    trigger: BlobTrigger | QueueTrigger | TimerTrigger
    outputs: dict[str, QueueOutput]
    bindings: list[dict[str, Any]]

    @property
    def title(self) -> str:
        return f"Functions.{self.name}"

    @property
    def trigger_type(self) -> str:
        return next(str(b["type"]) for b in self.bindings if b["type"].endswith("Trigger"))


@dataclass(frozen=True)
class HostSettings:
    """host.json, as far as it bears on blobs, queues and time; Microsoft's defaults where it is silent."""

    blob_degree: int
    blob_attempts: int
    batch_size: int
    new_batch_threshold: int
    dequeue_limit: int
    retry_after: timedelta
    longest_poll: timedelta
    base64: bool
    function_timeout: timedelta | None

    @classmethod
    def read(cls, path: Path) -> "HostSettings":
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls.parse(document)
        except (OSError, ValueError, AttributeError) as error:
            raise AppError(f"host.json: {error}") from error

    @classmethod
    def parse(cls, document: dict[str, Any]) -> "HostSettings":
        if document.get("version") != "2.0":
            raise AppError('host.json: the version must be "2.0"')
        blobs = document.get("extensions", {}).get("blobs", {})
        queues = document.get("extensions", {}).get("queues", {})
        batch_size = _within(queues, "batchSize", 16, 1, 32)
        timeout = document.get("functionTimeout", "00:30:00")
        return cls(
            blob_degree=_within(blobs, "maxDegreeOfParallelism", 8 * (os.cpu_count() or 1), 1),
            blob_attempts=_within(blobs, "poisonBlobThreshold", 5, 1),
            batch_size=batch_size,
            new_batch_threshold=_within(queues, "newBatchThreshold", batch_size // 2, 0),
            dequeue_limit=_within(queues, "maxDequeueCount", 5, 1),
            retry_after=timespan(queues.get("visibilityTimeout", "00:00:00")),
            longest_poll=timespan(queues.get("maxPollingInterval", "00:01:00")),
            base64=str(queues.get("messageEncoding", "base64")).lower() == "base64",
            function_timeout=None if timeout == "-1" else timespan(timeout),
        )


@dataclass(frozen=True)
class Schedule:
    """An NCRONTAB expression, `{second} {minute} {hour} {day} {month} {weekday}`, in UTC; Sunday is 0."""

    fields: tuple[frozenset[int], ...]

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        parts = text.split()
        if len(parts) != len(_RANGES):
            raise AppError(f"schedule {text!r}: NCRONTAB has six fields, seconds first; this has {len(parts)}")
        fields = zip(parts, _RANGES, strict=True)
        return cls(tuple(_moments(part, low, high, text) for part, (low, high) in fields))

    def __contains__(self, moment: datetime) -> bool:
        now = (
            moment.second,
            moment.minute,
            moment.hour,
            moment.day,
            moment.month,
            moment.isoweekday() % 7,
        )
        return all(value in field for value, field in zip(now, self.fields, strict=True))


_RANGES = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))


def _moments(field: str, low: int, high: int, text: str) -> frozenset[int]:
    values: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?", part)
        if not match:
            raise AppError(f"schedule {text!r}: {part!r} is neither *, a number, a range nor a step")
        first, last, step = match.groups()
        start = low if first is None else int(first)
        end = int(last) if last else high if first is None or step else start
        if not low <= start <= end <= high:
            raise AppError(f"schedule {text!r}: {part!r} is not within {low}–{high}")
        values.update(range(start, end + 1, int(step or 1)))
    return frozenset(values)


def describe(metadata: Any, environ: Mapping[str, str]) -> Function:
    """One function as the worker indexed it, with everything resolved that the host resolves."""
    bindings = [json.loads(text) for text in metadata.raw_bindings]
    try:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,127}", metadata.name):
            raise AppError("not a valid function name")
        triggers = [b for b in bindings if b["type"].endswith("Trigger")]
        outputs = [b for b in bindings if b not in triggers]
        (trigger,) = triggers  # the library sees to it that there is exactly one
        return Function(
            id=metadata.function_id,
            name=metadata.name,
            parameter=trigger["name"],
            trigger=_trigger(trigger, environ),
            outputs={b["name"]: _output(b, environ) for b in outputs},
            bindings=bindings,
        )
    except AppError as error:
        raise AppError(f"function {metadata.name!r}: {error}") from error


def _trigger(binding: dict[str, Any], environ: Mapping[str, str]) -> BlobTrigger | QueueTrigger | TimerTrigger:
    match binding["type"]:
        case "blobTrigger":
            return _blob_trigger(binding, environ)
        case "queueTrigger":
            return QueueTrigger(_connection(binding, environ, "queue"), _queue_name(binding, environ))
        case "timerTrigger":
            schedule = Schedule.parse(_resolve(binding["schedule"], environ))
            return TimerTrigger(schedule, bool(binding.get("runOnStartup")))
        case other:
            raise AppError(f"trigger type {other!r} is not supported here: only blob, queue and timer triggers are")


def _blob_trigger(binding: dict[str, Any], environ: Mapping[str, str]) -> BlobTrigger:
    source = str(binding.get("source") or "LogsAndContainerScan")
    if source.lower() not in {"eventgrid", "logsandcontainerscan"}:
        raise AppError(f"blob trigger source {source!r} is neither EventGrid nor LogsAndContainerScan")
    container, _, pattern = _resolve(binding["path"], environ).partition("/")
    return BlobTrigger(
        connection=_connection(binding, environ, "blob", "queue"),
        container=_storage_name(container),
        pattern=_pattern(pattern or "{name}"),
        event_grid=source.lower() == "eventgrid",
        by_reference=bool(binding.get("properties", {}).get("SupportsDeferredBinding")),
    )


def _output(binding: dict[str, Any], environ: Mapping[str, str]) -> QueueOutput:
    if binding["type"] != "queue":
        direction = str(binding["direction"]).lower()
        raise AppError(f"{direction} binding of type {binding['type']!r} is not supported here: only queue outputs are")
    return QueueOutput(_connection(binding, environ, "queue"), _queue_name(binding, environ))


def _queue_name(binding: dict[str, Any], environ: Mapping[str, str]) -> str:
    return _storage_name(_resolve(binding["queueName"], environ).lower())


def _storage_name(name: str) -> str:
    if not re.fullmatch(r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*", name):
        raise AppError(f"{name!r} is not a valid name of a container or queue")
    return name


def _connection(binding: dict[str, Any], environ: Mapping[str, str], *services: str) -> str:
    name = str(binding.get("connection") or "AzureWebJobsStorage")
    uris = [f"{name}__{service}ServiceUri" for service in services]
    if not environ.get(name) and not all(environ.get(uri) for uri in uris):
        raise AppError(f"connection {name!r} is not set: set {name}, or {' and '.join(uris)}")
    return name


def _resolve(text: str, environ: Mapping[str, str]) -> str:
    def setting(match: re.Match[str]) -> str:
        if not environ.get(match[1]):
            raise AppError(f"{text!r} does not resolve: there is no app setting {match[1]}")
        return environ[match[1]]

    return re.sub("%([^%]*)%", setting, text)


def _pattern(pattern: str) -> re.Pattern[str]:
    literals = re.split(r"\{(\w+)\}", pattern)
    parts = (f"(?P<{part}>.+)" if n % 2 else re.escape(part) for n, part in enumerate(literals))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise AppError(f"path pattern {pattern!r}: {error}") from error


def _within(section: dict[str, Any], key: str, default: int, low: int, high: int | None = None) -> int:
    value = section.get(key, default)
    if not isinstance(value, int) or value < low or (high is not None and value > high):
        raise AppError(f"host.json: {key} must be a number from {low} {f'to {high}' if high else 'on'}")
    return value


def timespan(text: str) -> timedelta:
    """A .NET TimeSpan: `hh:mm:ss`, or `d.hh:mm:ss`."""
    match = re.fullmatch(r"(?:(\d+)\.)?([01]?\d|2[0-3]):([0-5]\d):([0-5]\d)", str(text))
    if not match:
        raise AppError(f"host.json: {text!r} is not a time span such as 00:05:00")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
