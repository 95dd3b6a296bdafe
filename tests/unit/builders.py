"""Small manifests and what becomes of them, with everything named that a test does not care about."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from shared.customers import parse_customers
from shared.manifest import Code, Destination, Device, Manifest, Rules, find_destination, read_manifest
from shared.manifest.columns import field_of
from shared.manifest.values import is_damaged, is_legible, is_placeholder
from shared.partner_center import Accepted
from shared.plan import Upload
from shared.planning import Draft, plan_manifest

CUSTOMER = "c7f3c849-129f-4b85-a96d-4f8e88b315a3"
NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
HEADER = "Device Serial Number,Windows Product ID,Hardware Hash,Manufacturer name,Device model"
HASH = "R0hJQUJDREVG" * 300  # of a hash's shape, and none: it cannot be verified
PRODUCT_IDS = st.integers(1, 10**13 - 1).map("{:013d}".format)
NAMES = ("serial_number", "product_key", "hardware_hash", "manufacturer", "model")


def destination(
    path: str = "contoso/list.csv",
    metadata: Mapping[str, str] | None = None,
    default_batch: str = "Standard",
    **of_customer: object,
) -> Destination:
    customers = parse_customers(json.dumps({"contoso": {"customerId": CUSTOMER, **of_customer}}))
    return find_destination(path, metadata or {}, customers, default_batch)


def read(data: str | bytes | Iterable[bytes], to: Destination | None = None, **rules: Any) -> Manifest:
    """`data` read in one chunk, or in the chunks given."""
    data = data.encode() if isinstance(data, str) else data
    return read_manifest([data] if isinstance(data, bytes) else data, to or destination(), Rules(**rules))


def devices(manifest: Manifest) -> list[Device]:
    return [v.device for v in manifest.verdicts() if v.goes]


def batches(manifest: Manifest) -> dict[str, list[Device]]:
    return {batch: [device for _, device in manifest.devices_of(batch)] for batch in manifest.batches}


def found(manifest: Manifest) -> list[tuple[int | None, str]]:
    """Row and code of each finding; the short product ids of these tests are let pass."""
    return [(f.row, str(f.code)) for f in manifest.findings if f.code is not Code.PRODUCT_KEY_FORMAT]


def reason(manifest: Manifest) -> str | None:
    return str(manifest.refusal.code) if manifest.refusal else None


def said(manifest: Manifest) -> str:
    """All that a supplier is told, row by row."""
    of_rows = [f for v in manifest.verdicts() for f in v.findings]
    refusal = [manifest.refusal] if manifest.refusal else []
    return "\n".join(f"{f.column}: {f.message}" for f in (*refusal, *manifest.findings, *of_rows))


def texts(longest: int = 12) -> st.SearchStrategy[str]:
    """What a serial number, a maker or a model may be, signs and letters of all the world among them."""
    some = st.text(st.characters(exclude_categories=["C", "Z"]) | st.sampled_from(" ,;|\t\"'"), max_size=longest)
    return some.map(str.strip).filter(_is_a_value)


def _is_a_value(text: str) -> bool:
    return is_legible(text) and not (field_of(text) or is_placeholder(text) or is_damaged(text))


def device_lists(longest: int = 5) -> st.SearchStrategy[list[Device]]:
    """Devices that are identified, each by something of its own."""
    key = st.builds(
        Device, st.just("") | texts(), PRODUCT_IDS, st.just(""), st.just("") | texts(), st.just("") | texts()
    )
    named = st.builds(Device, texts(), st.just(""), st.just(""), texts(), texts())
    return st.lists(key | named, min_size=1, max_size=longest).filter(_are_different)


def _are_different(devices: list[Device]) -> bool:
    values = [value for device in devices for value in device[:2] if value]
    return len(values) == len(set(values))


def keys(*numbers: int) -> str:
    """A CSV of devices known by product key alone; 0 makes a row that identifies none."""
    return "Product ID,Model\n" + "".join(f"{n:013d},\n" if n else f",Slate {i}\n" for i, n in enumerate(numbers, 1))


def json_of(devices: Sequence[Mapping[str, object]], **heading: str) -> str:
    return json.dumps({**heading, "Devices": devices})


def csv_of(devices: Iterable[Device], columns: Sequence[tuple[str, str]], separator: str = ",") -> str:
    """`columns`: field of Device and the name to write for it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=separator)
    writer.writerow([name for _, name in columns])
    writer.writerows([getattr(d, field) for field, _ in columns] for d in devices)
    return text.getvalue()


def rows_of(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))


def upload(name: str = "contoso/list.csv", etag: str = "0x8DD0", **more: Any) -> Upload:
    url = "https://drop.blob.core.windows.net/manifests"
    known: dict[str, Any] = {"container_url": url, "container": "manifests", "received": NOW, "size": 100}
    return Upload(name=name, etag=etag, **(known | more))


def draft(
    data: str | bytes, to: Destination | None = None, of: Upload | None = None, per_request: int = 500, **limits: int
) -> Draft:
    with read(data, to, **limits) as manifest:
        return plan_manifest(of or upload(), manifest, per_request)


def accepted(
    location: str | None = f"/customers/{CUSTOMER}/batchJobStatus/beba2053-5401-46ff-9223-7e841ed78fbf",
) -> Accepted:
    uri = f"https://api.partnercenter.microsoft.com/v1{location}" if location else None
    ids = "c245d5f2-1de3-4ae0-9e42-95e38e3cb8ff", "e3f26e6a-044f-4371-ad52-0d91ce4200be"
    return Accepted(location, uri, *ids)
