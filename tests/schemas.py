"""What every message is held to: the schemas in docs/schemas, CloudEvents, and the room on a queue."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "schemas"
SCHEMAS = {f.name: json.loads(f.read_text(encoding="utf-8")) for f in FOLDER.glob("*.schema.json")}
REGISTRY: Registry[Any] = Registry().with_resources((n, Resource.from_contents(c)) for n, c in SCHEMAS.items())
AT_MOST = 48 * 1024
formats = FormatChecker(["uuid"])


@formats.checks("date-time", ValueError)
def is_utc(value: object) -> bool:
    return not isinstance(value, str) or (value.endswith("Z") and bool(datetime.fromisoformat(value)))


@formats.checks("uri", ValueError)
def is_uri(value: object) -> bool:
    return not isinstance(value, str) or (
        value.isascii() and value.isprintable() and " " not in value and bool(urlsplit(value).netloc)
    )


def checked(text: str) -> dict[str, Any]:
    """The event, if it is what its type's schema says and small enough for a queue."""
    event: dict[str, Any] = json.loads(text)
    schema = SCHEMAS[event["type"].removeprefix("io.autopilotdrop.") + ".schema.json"]
    Draft202012Validator(schema, registry=REGISTRY, format_checker=formats).validate(event)
    assert len(text.encode()) < AT_MOST
    return event
