"""A hardware hash is proved before Microsoft is asked."""

import base64
import csv
import struct
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.examples import hardware_hash
from shared.manifest import Manifest
from shared.manifest.hardware_hash import SIZE, Fault, Named, padded, read_hash
from tests.unit.builders import HEADER, devices, draft, read, rows_of

GOOD = hardware_hash("PF4K2M7Q", "LENOVO", "21HDCTO1WW", "3312345678901")
RAW = base64.b64decode(GOOD)


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def sealed(body: bytes) -> str:
    """A hash whose checksum holds, whatever its records say."""
    whole = body + b"CS" + struct.pack("<H", 36) + sha256(body).digest()
    return encode(whole.ljust(SIZE, b"\0"))


def body(records: bytes) -> bytes:
    return b"OA" + struct.pack("<H", 4 + len(records)) + records


def test_a_good_hash_names_its_device() -> None:
    """Its checksum holds, and serial, maker, model and product key are read from its records."""
    assert len(GOOD) == 4000
    assert read_hash(GOOD) == Named("PF4K2M7Q", "LENOVO", "21HDCTO1WW", "3312345678901")


@pytest.mark.parametrize("sample", ["collector_utf16le.csv", "collector_partner_utf16le.csv"])
def test_collected_hashes_name_the_serial_of_their_row(samples: Path, sample: str) -> None:
    """An encoder that is not ours agrees."""
    with (samples / sample).open(encoding="utf-16", newline="") as file:
        for row in csv.DictReader(file):
            found = read_hash(row["Hardware Hash"])
            assert isinstance(found, Named)
            assert found.serial_number == row["Device Serial Number"]


@pytest.mark.parametrize("length", [6, 100, 400, 1500, 2600, 2999])
def test_a_hash_that_was_cut_is_truncated(length: int) -> None:
    """Wherever it was cut: also its zeros belong to it."""
    assert read_hash(encode(RAW[:length])) is Fault.TRUNCATED


@given(st.integers(4, SIZE - 1), st.integers(1, 255))
def test_a_hash_with_any_byte_changed_is_not_good(at: int, change: int) -> None:
    """The checksum covers the records, and nothing but zeros may follow it."""
    damaged = bytearray(RAW)
    damaged[at] ^= change

    assert read_hash(encode(bytes(damaged))) is Fault.CORRUPT


def test_a_hash_that_goes_on_too_long_is_corrupt() -> None:
    """Two hashes in one cell, or a hash with something behind it."""
    assert read_hash(encode(RAW + b"\0" * 3)) is Fault.CORRUPT


@pytest.mark.parametrize(
    "records",
    [struct.pack("<HH", 14, 3), struct.pack("<HH", 14, 400) + b"x", b"\0\0", struct.pack("<HH", 14, 0) * 3],
)
def test_records_that_do_not_add_up_are_corrupt(records: bytes) -> None:
    """A checksum alone does not make a hash: nor may a crafted one loop for ever."""
    assert read_hash(sealed(body(records))) is Fault.CORRUPT


def test_what_is_no_hash_of_this_kind_cannot_be_verified() -> None:
    """The documents' example, and hashes of older kinds."""
    assert read_hash("DummyHash123") is Fault.UNVERIFIABLE
    assert read_hash("") is Fault.UNVERIFIABLE


@pytest.mark.parametrize("text", ["AQEA9E2mxw...", "T0Fz AQEA", "T0Fz-_8=", "T0F=zAQE", "T0FzÄQEA"])
def test_what_is_no_base64_is_said_to_be_none(text: str) -> None:
    """Elided, wrapped, of another alphabet, padded in the middle."""
    assert read_hash(text) is Fault.NOT_BASE64


def test_padding_follows_microsofts_vectors(samples: Path) -> None:
    """Each of them becomes the one that is valid."""
    lines = (samples / "hash_padding_vectors.txt").read_text().splitlines()[1:]
    vectors = dict(line.split("\t") for line in lines)
    (valid,) = (text for text, verdict in vectors.items() if verdict == "valid")

    assert {padded(text) for text in vectors} == {valid}


@given(st.binary(max_size=4000))
def test_any_bytes_end_in_a_verdict(data: bytes) -> None:
    """Hostile ones too."""
    for text in (encode(data), encode(b"OA" + data), sealed(body(data[:900]))):
        assert isinstance(read_hash(text), Named | Fault)


def verdict(row: str, header: str = HEADER, **rules: Any) -> Manifest:
    return read(f"{header}\n{row}\n", **{"bad_rows_allowed": 0} | rules)


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (f"PF4K2M7Q,,{GOOD},LENOVO,21HDCTO1WW", None),
        (f"pf4k2m7q,,{GOOD},,", None),
        (f",,{GOOD},,", None),
        (f"PF4K2M7Q,00329-00000-0003-AA606,{GOOD},,", None),
        (f"5CG3291XKQ,,{GOOD},,", "hash-mismatch"),
        (f"PF4K2M7Q,3312345678999,{GOOD},,", "hash-mismatch"),
        (f"PF4K2M7Q,,{GOOD},Lenovo,21HDCTO1WW", "hash-names-other-model"),
        (f"PF4K2M7Q,,{GOOD[:3000]},,", "hash-truncated"),
        (f"PF4K2M7Q,,{GOOD[:500]}AAAA{GOOD[504:]},,", "hash-corrupt"),
        ("PF4K2M7Q,,AQEA9E2mxw...,,", "hash-not-base64"),
        ("PF4K2M7Q,,DummyHash123,,", "hash-unverified"),
    ],
    ids=str,
)
def test_a_hash_is_held_against_its_row(row: str, code: str | None) -> None:
    """A hash in the wrong row, cut or damaged is found here, by the row's number."""
    manifest = verdict(row)

    assert [(f.row, f.code) for f in manifest.findings] == ([(2, code)] if code else [])
    assert manifest.is_accepted is (code in (None, "hash-names-other-model", "hash-unverified"))


def test_a_serial_that_nobody_filled_in_contradicts_none() -> None:
    """Firmware of some makers says so much for every device."""
    unset = hardware_hash("To Be Filled By O.E.M.", "Contoso", "Slate")

    assert not verdict(f"SN-1,,{unset},,").findings


def test_strict_takes_only_what_can_be_verified() -> None:
    """What is a warning otherwise keeps the device back."""
    manifest = verdict("PF4K2M7Q,,DummyHash123,,", hash_check="strict")

    assert manifest.refusal is not None
    assert (manifest.refusal.code, manifest.findings[0].severity) == ("hash-unverified", "error")


def test_off_takes_every_hash_as_it_is() -> None:
    """No check, no padding."""
    manifest = verdict("PF4K2M7Q,,DummyHash1234,,", hash_check="off")

    assert not manifest.findings
    assert devices(manifest)[0].hardware_hash == "DummyHash1234"


def test_an_unpadded_hash_is_sent_padded() -> None:
    """As Microsoft advises; its sender is told."""
    manifest = verdict("SN-1,,Q29udG9zbwAAA,,")

    assert devices(manifest)[0].hardware_hash == "Q29udG9zbwAAAA=="
    assert "hash-padded" in manifest.finding_counts


def test_a_report_names_a_hash_only_device_by_its_serial() -> None:
    """For the report alone: the request says what the manifest says."""
    with draft(f"{HEADER}\n,,{GOOD},,\n") as made:
        assert made.plan.report_csv is not None
        report = rows_of(made.read(made.plan.report_csv))
        assert report[0]["serial"] == "PF4K2M7Q"
        assert b"PF4K2M7Q" not in made.read(made.plan.parts[0])
