"""How long a manifest takes to be validated, against the least that could be done with it, and against others.

The floor of hashes is csv.reader, base64.b64decode and hashlib.sha256 over the same bytes; of tuples csv.reader alone.
"""

from __future__ import annotations

import base64
import csv
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import frictionless
from pydantic import BaseModel, Field

from bench.report import Line
from local.examples import hardware_hash
from shared.customers import parse_customers
from shared.manifest import Rules, find_destination, read_manifest

HASHES, TUPLES = 20_000, 200_000
REPEATS = 5
_CHUNK = 4 * 1024 * 1024  # as the blob client downloads
_CUSTOMERS = '{"contoso": {"customerId": "c7f3c849-129f-4b85-a96d-4f8e88b315a3", "batchId": "Standard"}}'


class _Row(BaseModel):
    """What most would write."""

    serial: str = Field(alias="Device Serial Number", min_length=1)
    product_key: str = Field("", alias="Windows Product ID")
    hardware_hash: str = Field("", alias="Hardware Hash", pattern="^[A-Za-z0-9+/=]*$")
    manufacturer: str = Field("", alias="Manufacturer name")
    model: str = Field("", alias="Device model")


def run() -> Iterator[Line]:
    hashes = _csv(f"S-{n:08d},,{hardware_hash(f'S-{n:08d}', 'Contoso', 'Slate')},," for n in range(HASHES))
    tuples = _csv(f"S-{n:08d},,,Contoso Ltd,Slate {n % 7}" for n in range(TUPLES))
    yield Line("validate-hashes", _ratio(lambda: _validate(hashes), lambda: _hash_floor(hashes)), 1.0)
    yield Line("validate-tuples", _ratio(lambda: _validate(tuples), lambda: _read(tuples)), 8.0)
    yield Line("pydantic-row-by-row-over-ours", _ratio(lambda: _pydantic(hashes), lambda: _validate(hashes), 1))
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        file.write(hashes)
        file.flush()
        yield Line("frictionless-over-ours", _ratio(lambda: _frictionless(file.name), lambda: _validate(hashes), 1))


def _csv(rows: Iterator[str]) -> bytes:
    header = "Device Serial Number,Windows Product ID,Hardware Hash,Manufacturer name,Device model"
    return "\r\n".join([header, *rows, ""]).encode()


def _ratio(ours: Callable[[], None], floor: Callable[[], None], repeats: int = REPEATS) -> float:
    """The median of the ratios, each of two runs side by side."""
    return statistics.median(_seconds(ours) / _seconds(floor) for _ in range(repeats))


def _seconds(call: Callable[[], None]) -> float:
    """Of this process alone: others may keep the machine busy."""
    before = time.process_time()
    call()
    return time.process_time() - before


def _validate(data: bytes) -> None:
    chunks = (data[at : at + _CHUNK] for at in range(0, len(data), _CHUNK))
    destination = find_destination("contoso/a.csv", {}, parse_customers(_CUSTOMERS))
    with read_manifest(chunks, destination, Rules(max_devices=TUPLES)) as manifest:
        assert manifest.is_accepted
        assert not manifest.findings


def _read(data: bytes) -> None:
    for _ in _rows(data):
        pass


def _hash_floor(data: bytes) -> None:
    sha256(data)
    rows = _rows(data)
    next(rows)
    for row in rows:
        base64.b64decode(row[2])


def _rows(data: bytes) -> Iterator[list[str]]:
    return csv.reader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""))


def _pydantic(data: bytes) -> None:
    for row in csv.DictReader(io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")):
        _Row.model_validate({name: value or "" for name, value in row.items()})


def _frictionless(path: str) -> None:
    file = Path(path)
    assert frictionless.validate(file.name, basepath=str(file.parent)).stats["errors"] is not None
