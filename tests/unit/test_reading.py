"""A manifest read whole: what goes, what is refused, and in which words."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.manifest import Device
from shared.planning import plan_manifest
from tests.unit.builders import (
    HASH,
    HEADER,
    batches,
    destination,
    devices,
    found,
    json_of,
    keys,
    read,
    reason,
    said,
    upload,
)

TEMPLATE = (
    "Device serial number,Windows product ID,Hardware hash,Manufacturer name,Device Model\r\n"
    "SN 1,,,Contoso,Tablette é,\r\n,123451234567,,,,\r\n,,,,,\r\n,,,,,\r\n"
    "SAMPLE EXPLAINED (remove the following section before uploading),,,,,\r\n"
    "Line 2 illustrates the tuple,,,,,\r\n"
)
EVERY_BYTE = range(700)
DOCUMENT = json_of([{"SerialNumber": "é", "ProductKey": "1"}, {"HardwareHash": "X"}], BatchId="Kiosk")


@pytest.mark.parametrize(
    "data",
    [
        TEMPLATE.encode("utf-8-sig"),
        TEMPLATE.encode("utf-16"),
        b"\xfe\xff" + TEMPLATE.encode("utf-16-be"),
        DOCUMENT.encode("utf-8-sig"),
        b"PK\x03\x04" + bytes(range(256)),
        b"\xef\xbb\xbf<!DOCTYPE html>",
        b'Product ID\r\n"1\r\n2"\r\r\n3',
    ],
    ids=["utf-8", "utf-16-le", "utf-16-be", "json", "zip", "html", "line-ends"],
)
@given(cuts=st.lists(st.integers(0, 700), max_size=12) | st.just(EVERY_BYTE))
@example(cuts=EVERY_BYTE)
def test_chunking_changes_nothing(data: bytes, cuts: Sequence[int]) -> None:
    """Where the network cuts a manifest makes no difference to what is read."""
    edges = [0, *sorted(min(c, len(data)) for c in cuts), len(data)]
    cut, whole = read([data[a:b] for a, b in pairwise(edges)]), read(data)
    assert list(cut.verdicts()) == list(whole.verdicts())
    assert (cut.findings, cut.refusal, cut.sha256) == (whole.findings, whole.refusal, whole.sha256)


@given(
    st.binary()
    | st.binary().map(lambda b: HEADER.encode() + b"\n" + b)
    | st.binary().map(lambda b: b'[{"SerialNumber":"' + b + b'"}]')
    | st.text('[]{}",:0123\\ud8e SerialNumber').map(lambda t: b'{"Devices":[{' + t.encode())
)
@example(b'[{"ProductKey":"1","SerialNumber":"\\ud800"}]')
@example(b'[{"SerialNumber":' + b"1" * 6000 + b"}]")
@example(b"\xff\xfe\x00\xd8")
def test_any_bytes_end_in_an_answer(data: bytes) -> None:
    """Whatever is dropped ends in devices or findings, and in a plan that can be written down."""
    manifest = read(data)
    with plan_manifest(upload(), manifest, 500) as draft:
        assert draft.plan.devices or draft.plan.findings
        assert draft.plan.model_dump_json().encode()


@pytest.mark.parametrize(
    "given",
    [
        {"hardware_hash": "HASH", "product_key": "P"},
        {"hardware_hash": "HASH", "serial_number": "S"},
        {"hardware_hash": "HASH", "product_key": "P", "serial_number": "S"},
        {"hardware_hash": "HASH"},
        {"product_key": "P"},
        {"serial_number": "S", "manufacturer": "M", "model": "N"},
    ],
    ids="+".join,
)
def test_identified_device_goes(given: dict[str, str]) -> None:
    """Each of the six combinations that Partner Center documents identifies a device."""
    d = Device(**given)
    row = ",".join((d.serial_number, d.product_key, d.hardware_hash, d.manufacturer, d.model))
    assert devices(read(f"{HEADER}\n{row}\n")) == [d]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("S,,,,", "Device Serial Number alone is not enough"),
        ("S,,,M,", "Add Device model"),
        ("S,,,,N", "Add Manufacturer name"),
        (",,,M,N", "Add Device Serial Number"),
    ],
)
def test_unidentified_device_is_refused_in_plain_words(row: str, words: str) -> None:
    """Too little to know a device by is refused, saying what was given or what to add."""
    manifest = read(f"{HEADER}\n{row}\n")
    assert found(manifest) == [(2, "unidentified-device")]
    assert words in manifest.findings[0].message
    assert reason(manifest) == "unidentified-device"


def test_identical_rows_go_once() -> None:
    """Of two identical rows one is sent, and the other is told which."""
    manifest = read(keys(1, 2, 1), bad_rows_allowed=0)
    assert found(manifest) == [(4, "duplicate-device")]
    assert "row 2" in manifest.findings[0].message
    assert devices(manifest) == [Device(product_key=f"{n:013d}") for n in (1, 2)]


@pytest.mark.parametrize(
    "rows", ["S,K1,,,\nS,K2,,,", "S,K7,,,\nT,K7,,,", "S,,H,,\nT,,H,,"], ids=["serial", "key", "hash"]
)
def test_rows_that_disagree_name_each_other(rows: str) -> None:
    """Two rows for one device that differ are both held back, and each names the other."""
    manifest = read(f"{HEADER}\n{rows}\n,3,,,\n", bad_rows_allowed=90, hash_check="off")
    assert sorted(found(manifest)) == [(2, "conflicting-duplicate"), (3, "conflicting-duplicate")]
    messages = {v.row: v.findings[-1].message for v in manifest.verdicts()}
    assert "Row 3" in messages[2]
    assert "Row 2" in messages[3]
    assert devices(manifest) == [Device(product_key="3")]


@pytest.mark.parametrize(("rows", "bad"), [("S,M,N,x\nS,M,N", 2), ("S,M,N\nS,M,N,x", 3)])
def test_a_good_row_is_not_left_out_for_a_bad_one(rows: str, bad: int) -> None:
    """Else neither would go of two that are the same device, and the good one be told that the other does."""
    manifest = read(f"Serial,Make,Model\n{rows}\n", bad_rows_allowed=50)
    assert found(manifest) == [(bad, "ragged-row"), (bad, "duplicate-device")]
    assert devices(manifest) == [Device("S", "", "", "M", "N")]


def test_rows_that_identify_nothing_are_not_the_same_device() -> None:
    """Two rows of which no device can be told are not said to be one."""
    assert found(read("Product ID,Model\n,N\n,N\n")) == [(2, "unidentified-device"), (3, "unidentified-device")]


def test_same_device_for_two_batches_is_a_conflict() -> None:
    """A group tag that differs makes two rows disagree."""
    manifest = read("Product ID,Group Tag\n1,A\n1,B\n")
    assert reason(manifest) == "conflicting-duplicate"


@pytest.mark.parametrize(("bad", "goes"), [(1, True), (2, True), (3, False)])
def test_bad_rows_are_left_out_up_to_the_allowed_share(bad: int, goes: bool) -> None:
    """With 20 % allowed, two bad rows of ten are left out, and a third refuses all."""
    manifest = read(keys(*[0] * bad, *range(1, 11 - bad)), bad_rows_allowed=20)
    assert manifest.is_accepted is goes
    assert len(devices(manifest)) == (10 - bad if goes else 0)


def test_no_bad_row_allowed() -> None:
    """With 0 % allowed, one bad row refuses a thousand good ones."""
    assert reason(read(keys(0, *range(1, 1001)), bad_rows_allowed=0)) == "unidentified-device"


def test_nothing_good_left_is_a_refusal() -> None:
    """A manifest whose every row is bad is refused, even where all rows may be bad."""
    assert reason(read(keys(0), bad_rows_allowed=100)) == "unidentified-device"


def test_refusal_names_the_code_all_bad_rows_share() -> None:
    """Where every bad row has one fault in common, that is the reason; else there are too many bad rows."""
    assert reason(read("Product ID,Model\n,N\n,N\n")) == "unidentified-device"
    mixed = read("Product ID,Model\n,N\n1,N,beyond\n")
    assert reason(mixed) == "too-many-bad-rows"
    assert "2 of 2 rows" in said(mixed)


def test_shared_code_is_found_behind_many_warnings() -> None:
    """A thousand warnings before it do not hide what every bad row shares."""
    twins = "1\n" * 1_100
    assert reason(read(f"Product ID\n{twins}", destination(default_batch=""))) == "missing-batch-id"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_bytes": 40}, "manifest-too-large"),
        ({"max_devices": 2}, "too-many-devices"),
        ({"max_batches": 2}, "too-many-batches"),
    ],
)
def test_more_than_the_limit_is_refused(limits: dict[str, int], code: str) -> None:
    """A manifest that asks too much is refused whole, with the limit in the message."""
    manifest = read("Product ID,Group Tag\n1,A\n2,B\n3,C\n" + "\n" * 10, **limits)
    assert reason(manifest) == code
    assert str(*limits.values()) in said(manifest)
    assert devices(manifest) == []


def test_exactly_the_limit_goes() -> None:
    """What is just within every limit is taken."""
    data = "Product ID,Group Tag\n1,A\n2,B\n"
    assert len(devices(read(data, max_bytes=len(data), max_devices=2, max_batches=2))) == 2


@pytest.mark.parametrize(
    ("start", "word"),
    [
        (b"PK\x03\x04", "zip"),
        (b"\xd0\xcf\x11\xe0", "Excel"),
        (b"%PDF-1.7", "PDF"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\n <html>", "web page"),
    ],
)
def test_other_things_are_named_as_what_they_are(start: bytes, word: str) -> None:
    """A workbook, an archive, a PDF or a web page with a .csv name is refused as what it is."""
    manifest = read(start + b"\n1,2,3\n")
    assert reason(manifest) == "not-a-manifest"
    assert word in said(manifest)


@pytest.mark.parametrize("data", [b"Product ID\n\x81\n", b"Product ID\n1\x002\n", bytes(range(128, 256))])
def test_binary_is_unreadable(data: bytes) -> None:
    """Bytes that are no text are refused as such."""
    assert reason(read(data)) == "unreadable-text"


@pytest.mark.parametrize("data", [b"", b"\r\n \r\n", b"\xff\xfe", HEADER.encode(), b"[]", b'{"Devices": []}'])
def test_nothing_in_it_is_an_empty_manifest(data: bytes) -> None:
    """A file without a device is an empty manifest, whatever else it holds."""
    assert reason(read(data)) == "empty-manifest"


@pytest.mark.parametrize(
    "data",
    [
        f"Product ID,{HASH}\n1,x\n",
        f"{HASH},{HASH}\n1,2\n",
        f"Serial,Product ID\n{HASH},1\n",
        f"Product ID,Group Tag\n1,{HASH}\n",
        f"Product ID,Tenant ID\n1,{HASH}\n",
        f"Hardware Hash,Model\n{HASH},N,{HASH}\n",
        f"Hardware Hash,Serial\n{HASH},1\n{HASH},2\n",
        f'[{{"ProductKey": "1", "{HASH}": 1}}]',
        f'[{{"ProductKey": "{HASH}", "SerialNumber": 1}}]',
        f'[{{"HardwareHash": "{HASH}" "SerialNumber": 1}}]',
        json_of([{"HardwareHash": HASH}], BatchId=HASH, CustomerId=HASH),
    ],
)
def test_no_finding_quotes_a_hash(data: str) -> None:
    """Wherever a hardware hash stands in a manifest, no finding repeats it."""
    manifest = read(data)
    assert manifest.findings
    assert not re.search(r"[A-Za-z0-9+/=]{40}", said(manifest))


def test_quoted_values_are_cut() -> None:
    """A finding quotes at most 64 characters of a value."""
    manifest = read(f"Product ID,Group Tag\n1,{'tag ' * 100}\n")
    assert max(map(len, re.findall("“(.*?)”", said(manifest)))) <= 64


COLLECTED = [(2, "PF4K2M7Q", "", 4000), (3, "5CG3291XKQ", "", 4000)]
VMWARE = (4, "VMware-56 4d 8d 1a 2b 3c 4d 5e-6f 70 81 92 a3 b4 c5 d6", "", 4000)
CTL365 = {
    "Production": [(2, "LAPTOP-001", "12345-67890-ABCDE", 0), (3, "LAPTOP-002", "12345-67890-FGHIJ", 0)],
    "Development": [(4, "LAPTOP-003", "12345-67890-KLMNO", 0)],
    "Engineering": [(5, "DESKTOP-001", "12345-67890-PQRST", 0), (6, "DESKTOP-002", "12345-67890-UVWXY", 0)],
}
PORTAL = {
    "Entra": [(2, "0924-3584-5488-9044-8423-3149-46", "", 0), (4, "AAA-0263-9697-7653-AAAA-AAAA-AA", "", 0)],
    "CIS": [
        (3, "7440-0683", "", 0),
        (5, "DNuesTLjtKit", "", 0),
        (6, "poiuytrewqlkjhgfdsa", "", 0),
        (7, "qwertyuiopasdfghjklzxcvbnm", "", 0),
    ],
}
PKID = "00329-00000-0003-AA606"
IGNORED = (1, "ignored-column")


@pytest.mark.parametrize(
    ("name", "goes", "findings"),
    [
        ("collector_utf16le.csv", {"Standard": [*COLLECTED, VMWARE]}, []),
        ("collector_partner_utf16le.csv", {"Standard": COLLECTED}, []),
        ("collector_powershell7_utf8.csv", {"Standard": COLLECTED}, []),
        ("ctl365_autopilot-devices.csv", CTL365, []),
        ("ctl365_docs_oem_mixed_rows.csv", {"Standard": [(3, "DEF456", "", 0)]}, [(2, "hash-not-base64")]),
        (
            "ctl365_mixed_hash_and_tuple.csv",
            {"Standard": [(2, "SN001", "", 8), (3, "SN002", "", 8), (4, "SN003", "", 0)]},
            [(2, "hash-padded"), (2, "hash-unverified"), (3, "hash-padded"), (3, "hash-unverified")],
        ),
        ("intune_portal_device_export_quoted.csv", PORTAL, [IGNORED] * 3),
        ("intune_doc_template.csv", {}, [IGNORED, (2, "placeholder-value")]),
        ("partner_center_doc_template.csv", {}, [(2, "placeholder-value")]),
        ("partner_center_ms_example_extra_commas.csv", {}, [(2, "hash-truncated")]),
        ("partner_center_tuple_lenovo.csv", {"Standard": [(2, "PF02NCT8", "", 0), (3, "PC0XDW8P", "", 0)]}, []),
        (
            "partner_center_template.csv",
            {"Standard": [(3, "", "123451234567", 0)]},
            [(2, "unidentified-device"), (4, "hash-truncated"), *((n, "ignored-row") for n in range(8, 12))],
        ),
        (
            "test_tenant_bad_hash_and_pkid.csv",
            {"test-devices": [(2, "TEST001", "", 12)]},
            [IGNORED, (2, "hash-unverified")],
        ),
        ("create_batch.request.json", {"SDKTestDeviceBatch": [(1, "1R9-ZNP67", PKID, 12)]}, [(1, "hash-unverified")]),
        (
            "add_devices_to_batch.request.json",
            {},
            [(n, code) for n in (1, 2) for code in ("conflicting-duplicate", "hash-padded", "hash-unverified")],
        ),
    ],
)
def test_samples(samples: Path, name: str, goes: dict[str, object], findings: list[object]) -> None:
    """Real texts are read as what they say. (Two of the template's three rows are bad: that much is allowed here.)"""
    manifest = read((samples / name).read_bytes(), bad_rows_allowed=67)
    seen = {
        batch: [(n, d.serial_number, d.product_key, len(d.hardware_hash)) for n, d in manifest.devices_of(batch)]
        for batch in manifest.batches
    }
    assert seen == goes
    assert sorted(found(manifest)) == findings
    assert sum(map(len, batches(manifest).values())) == manifest.devices == len(devices(manifest))
