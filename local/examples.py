"""Manifests to drop, of synthetic devices, in the shapes that suppliers really send."""

from __future__ import annotations

import base64
import json
import random
import struct
from hashlib import sha256

_HASH_BYTES = 3000
_SERIAL, _MANUFACTURER, _MODEL, _PRODUCT_KEY = 14, 16, 17, 24
# Kind and length of the records without text that real hashes hold, before the others and after them.
_BEFORE, _AFTER = {1: 28, 2: 44, 8: 14, 12: 20}, {25: 304}


def hardware_hash(serial: str, manufacturer: str, model: str, product_key: str = "", seed: int = 0) -> str:
    """A 4K hardware hash of a device that does not exist: Base64 of 3000 bytes whose checksum holds.

    The layout is that of `reference/manifests.md`: `OA`, the length, records, `CS`, 36 and the SHA-256 of all before.
    """
    filler = random.Random(f"{serial}{seed}")  # noqa: S311 - the same device gets the same hash in each run
    strings = {_SERIAL: serial, 15: "Contoso Firmware", _MANUFACTURER: manufacturer, _MODEL: model}
    strings |= {18: "SKU", 19: "Family", _PRODUCT_KEY: product_key}
    records = [_record(kind, filler.randbytes(length - 4)) for kind, length in _BEFORE.items()]
    records += [_record(kind, value.encode() + b"\0") for kind, value in strings.items() if value]
    records += [_record(kind, filler.randbytes(length - 4)) for kind, length in _AFTER.items()]
    body = b"OA" + struct.pack("<H", 4 + sum(map(len, records))) + b"".join(records)
    whole = body + b"CS" + struct.pack("<H", 36) + sha256(body).digest()
    return base64.b64encode(whole.ljust(_HASH_BYTES, b"\0")).decode()


def _record(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, 4 + len(data)) + data


def collector_csv(count: int = 3) -> bytes:
    """What the collector writes from Windows PowerShell: UTF-16LE with BOM, CRLF, no quotes, no product id."""
    lines = ["Device Serial Number,Windows Product ID,Hardware Hash"]
    for number in range(count):
        serial = f"PF{number:03d}XQ7"
        lines.append(f"{serial},,{hardware_hash(serial, 'LENOVO', '21HDCTO1WW')}")
    return ("\r\n".join(lines) + "\r\n").encode("utf-16")


def partner_center_csv() -> bytes:
    """Partner Center's template: BOM, more commas than columns, product-key and tuple rows, its footer left in."""
    text = (
        "Device serial number,Windows product ID,Hardware hash,Manufacturer name,Device Model\r\n"
        "5CG9482QHT,,,HP,HP EliteBook 840 G9\r\n"
        "5CG9482QJ0,,,HP,HP EliteBook 840 G9\r\n"
        ",3312345678901,,,,\r\n"
        ",,,,,\r\n"
        "SAMPLE EXPLAINED (remove the following section before uploading),,,,,\r\n"
        "Line 2 illustrates the tuple,,,,,\r\n"
    )
    return text.encode("utf-8-sig")


def api_json() -> bytes:
    """The API's own request body."""
    devices = [
        {"SerialNumber": "1R9-ZNP67", "ProductKey": "00329-00000-0003-AA606", "HardwareHash": "DummyHash123"},
        {"SerialNumber": "1R9-ZNP68", "OemManufacturerName": "Microsoft Corporation", "ModelName": "Surface Laptop 6"},
    ]
    return json.dumps({"BatchId": "SDKTestDeviceBatch", "Devices": devices}, indent=2).encode()


def rejected_csv() -> bytes:
    """Two of three rows do not say enough of their devices."""
    text = (
        "Device Serial Number,Windows Product ID,Hardware Hash,Manufacturer name,Device model,Order ID\n"
        "PC-1001,,,Dell Inc.,Latitude 5540,PO-88\n"
        "PC-1002,,,,,PO-88\n"
        "PC-1003,,,Dell Inc.,,PO-88\n"
    )
    return text.encode()
