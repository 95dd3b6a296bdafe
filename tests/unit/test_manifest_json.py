"""Manifests as JSON: requests, lists, single devices, and one device a line."""

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.manifest import Device
from tests.unit.builders import (
    CUSTOMER,
    HASH,
    NAMES,
    batches,
    device_lists,
    devices,
    found,
    json_of,
    read,
    reason,
    said,
)

PASCAL = ("SerialNumber", "ProductKey", "HardwareHash", "OemManufacturerName", "ModelName")
CAMEL = tuple(n[0].lower() + n[1:] for n in PASCAL)


@pytest.mark.parametrize("bare", [False, True], ids=["request", "array"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@given(expected=device_lists(), names=st.sampled_from([PASCAL, CAMEL]), ascii_only=st.booleans())
def test_written_devices_read_back(
    encoding: str, bare: bool, expected: list[Device], names: tuple[str, ...], ascii_only: bool
) -> None:
    """Any devices, as a request or an array, in either letter case, are read value for value."""
    members = [{n: getattr(d, f) or None for n, f in zip(names, NAMES, strict=True)} for d in expected]
    document = members if bare else {"devices" if names is CAMEL else "Devices": members}
    assert devices(read(json.dumps(document, ensure_ascii=ascii_only).encode(encoding))) == expected


@pytest.mark.parametrize("name", ["BatchId", "batchId"])
@pytest.mark.parametrize("last", [False, True])
def test_batch_id_stands_anywhere_in_the_document(name: str, last: bool) -> None:
    """The document's batch id counts before the devices and after them, and over the rows' own."""
    heading, body = {name: "Kiosk"}, {"Devices": [{"ProductKey": "1", "GroupTag": "Lab"}]}
    assert read(json.dumps(body | heading if last else heading | body)).batches == {"Kiosk": 1}


@pytest.mark.parametrize(("claimed", "goes"), [(CUSTOMER, True), (CUSTOMER.upper(), True), ("c0ffee", False)])
def test_customer_id_must_agree_with_the_folder(claimed: str, goes: bool) -> None:
    """A document for another customer than the folder's is refused."""
    manifest = read(json_of([{"ProductKey": "1"}], CustomerId=claimed))
    assert reason(manifest) == (None if goes else "customer-mismatch")
    assert len(devices(manifest)) == goes


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["value", "importedWindowsAutopilotDeviceIdentities", "Devices"])
def test_lists_by_any_name(name: str, indent: int | None) -> None:
    """Graph's lists and import bodies are read like the API's request; its annotations are no news."""
    device = {
        "@odata.type": "#microsoft.graph.importedWindowsAutopilotDeviceIdentity",
        "serialNumber": "S1",
        "productKey": "",
        "hardwareIdentifier": HASH,
        "groupTag": "Kiosk",
        "importId": "7",
        "state": {"deviceImportStatus": "pending"},
        "serialNumber@odata.type": "String",
        "assignedUserPrincipalName": "me@contoso.example",
    }
    manifest = read(json.dumps({"@odata.context": "https://graph", name: [device], "Count": 1}, indent=indent))
    assert batches(manifest) == {"Kiosk": [Device("S1", "", HASH)]}
    assert [f.column for f in manifest.findings] == ["assignedUserPrincipalName", "Hardware Hash"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("end", ["", "\n", "\r\n\x1a"])
def test_one_device_alone(indent: int | None, end: str) -> None:
    """An object with a device's members is that device; its batch id is its own."""
    device = {"serialNumber": "S1", "manufacturer": "M", "model": "N", "BatchId": "Kiosk", "Colour": ["red"]}
    manifest = read(json.dumps(device, indent=indent) + end)
    assert batches(manifest) == {"Kiosk": [Device("S1", manufacturer="M", model="N")]}
    assert found(manifest) == [(1, "ignored-column")]


def test_only_element_of_a_list_may_stand_for_it() -> None:
    """PowerShell writes a list of one as its element."""
    assert devices(read('{"value": {"ProductKey": "1"}, "Count": 1}')) == [Device(product_key="1")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_device_a_line(end: str) -> None:
    """Each line is a row of its own: a broken one is a bad row, and blank ones count."""
    lines = [
        "",
        '{"ProductKey": "1"}',
        "",
        '{"ProductKey": "2"',
        "7",
        "nonsense",
        ' {"ProductKey": "6"} ',
        '{}{"a": 1}',
    ]
    manifest = read(end.join([*lines, "\x1a"]), bad_rows_allowed=90)
    assert [(v.row, v.device.product_key) for v in manifest.verdicts() if v.goes] == [(2, "1"), (7, "6")]
    assert found(manifest) == [(n, "invalid-value") for n in (4, 5, 6, 8)]


@pytest.mark.parametrize(
    "first",
    [
        '{"ProductKey": "1"',
        '{"ProductKey": }',
        '{"ProductKey": "1"}}',
        '{"a":' * 10_000 + "1",
        '{"ProductKey": "1", "Mo',
    ],
    ids=["bracket", "value", "brackets", "depth", "cut"],
)
def test_first_line_may_be_the_broken_one(first: str) -> None:
    """It does not decide over those behind it."""
    manifest = read(first + '\n{"ProductKey": "2"}\n{"ProductKey": "3"}\n', bad_rows_allowed=50)
    assert [d.product_key for d in devices(manifest)] == ["2", "3"]
    assert found(manifest) == [(1, "invalid-value")]


def test_a_line_far_too_long_is_one_bad_row() -> None:
    """It is not held, and the lines behind it keep their numbers."""
    long = '{"ProductKey": "2", "Comment": "' + "x" * 300_000 + '"}'
    manifest = read(f'{{"ProductKey": "1"}}\n{long}\n{{"ProductKey": "3"}}\n', bad_rows_allowed=50)
    assert found(manifest) == [(2, "invalid-value")]
    assert [v.row for v in manifest.verdicts() if v.goes] == [1, 3]


@pytest.mark.parametrize(
    "text",
    [
        '{"Devices": [\n{"ProductKey": "1"},\n{"ProductKey": "2"}\n]}',
        '[{"ProductKey": "1"},\n{"ProductKey": "2"}]',
        '[\n{"ProductKey": "1"}\n,{"ProductKey": "2"}\n]\n',
        '{"Devices":\n[{"ProductKey": "1"}],\n"devices": [{"ProductKey": "2"}]}',
        '{"value":\n{"ProductKey": "1"},\n"Devices": [{"ProductKey": "2"}]}',
    ],
)
def test_lines_of_a_document_are_no_rows(text: str) -> None:
    """However a document is broken into lines, its rows are its elements, in all of its lists."""
    assert [(v.row, v.device.product_key) for v in read(text).verdicts()] == [(1, "1"), (2, "2")]


def test_a_value_far_too_long_is_not_looked_into() -> None:
    """What is searched for in a product id is not searched for in a book, where it would take minutes."""
    began = time.process_time()
    assert reason(read(json_of([{"ProductKey": "pro " * 30_000 + "\nx"}]))) == "invalid-value"
    assert time.process_time() - began < 2


@pytest.mark.parametrize("lines", [False, True], ids=["array", "lines"])
def test_half_a_character_is_invalid(lines: bool) -> None:
    """JSON can write half of a pair; it is not guessed what was meant, and both halves are one character."""
    values = ["\\ud800", "a\\udc00b", "\\ud83d\\ude00", "\\\\ud800"]
    rows = [f'{{"ProductKey": "{n}", "Model": "{value}"}}' for n, value in enumerate(values)]
    manifest = read("\n".join(rows) if lines else f"[{','.join(rows)}]", bad_rows_allowed=50)
    assert found(manifest) == [(1, "invalid-value"), (2, "invalid-value")]
    assert [d.model for d in devices(manifest)] == ["😀", "\\ud800"]


@pytest.mark.parametrize("number", ["7", "-1.5e3", "9" * 30, "9" * 6_000, "1e999999", "true", "[]", "{}"])
def test_what_is_no_string_is_refused(number: str) -> None:
    """A product key written as a number has lost its leading zeros, however long it is."""
    manifest = read(f'[{{"ProductKey": {number}}}]')
    assert (reason(manifest), "must be a string" in said(manifest)) == ("invalid-value", True)


def test_member_said_twice_is_invalid() -> None:
    """Which of two is meant is not guessed, nor said more often than helps; an empty one says nothing."""
    same = ", ".join(f'"serial": "{n}"' for n in range(1_000))
    manifest = read(f'[{{"ProductKey": "1", {same}}}, {{"ProductKey": "2", "PKID": "", "productKey": null}}]')
    assert found(manifest)[:10] == [(1, "invalid-value")] * 10
    assert manifest.finding_counts["invalid-value"] == 10
    assert [v.row for v in manifest.verdicts() if not v.is_bad] == [2]


@pytest.mark.parametrize(
    "text", ['{"Devices": null}', '{"Devices": []}', "[]", " [\n] ", '{"Devices": [], "devices": []}']
)
def test_no_devices_are_an_empty_manifest(text: str) -> None:
    """An empty list is of the right shape, and so is null, which some programs write for one."""
    assert reason(read(text)) == "empty-manifest"


@pytest.mark.parametrize("member", ["BatchId", "CustomerId"])
def test_heading_said_twice_is_refused(member: str) -> None:
    """A batch cannot be undone, so two of them are one too many."""
    manifest = read(f'{{"{member}": "A", "{member.lower()}": "B", "Devices": [{{"ProductKey": "1"}}]}}')
    assert (reason(manifest), "says again" in said(manifest)) == ("invalid-value", True)


def test_device_members_beside_a_list_are_told_of() -> None:
    """A group tag for all is not what the document's members mean, and must not seem to be."""
    manifest = read('{"GroupTag": "Kiosk", "Devices": [{"ProductKey": "1"}]}')
    assert (list(manifest.batches), found(manifest)) == (["Standard"], [(None, "ignored-column")])


def test_page_of_a_longer_list_is_told_of() -> None:
    """Graph lists in pages: the devices of the others are not in the file."""
    manifest = read('{"@odata.nextLink": "https://graph/2", "value": [{"productKey": "1"}]}')
    assert (len(devices(manifest)), "one page of several" in said(manifest)) == (1, True)


def test_rows_are_elements_from_1() -> None:
    """JSON has no rows: the element's number stands for it."""
    manifest = read('[{"ProductKey": "1"},\n\n{"SerialNumber": "S"}, 7, {"productKey": 8}]', bad_rows_allowed=90)
    codes = [(2, "unidentified-device"), (3, "invalid-value"), (4, "invalid-value")]
    assert found(manifest) == codes
    assert devices(manifest) == [Device(product_key="1")]


def test_members_of_the_api_are_no_news_and_others_are_said_once() -> None:
    """What the API's own request holds is passed over; a member that means nothing is warned of once."""
    device = {"Id": None, "Policies": [{"a": [1]}], "Attributes": {"ObjectType": "Device"}, "Colour": "red"}
    manifest = read(json_of([device | {"ProductKey": n} for n in "12"]))
    assert found(manifest) == [(1, "ignored-column")]
    assert len(devices(manifest)) == 2


@pytest.mark.parametrize(
    "text",
    [
        '[{"ProductKey": "1"}',
        '[{"ProductKey": "1"}, ',
        '{"value": [{"ProductKey": "1"}], 7: 8}',
        '[{"ProductKey": "1"}, {"ProductKey": "\\u12"}]',
        '[{"ProductKey": "1"}, {"ProductKey": "2}]',
        '[{"ProductKey": "1"} {"ProductKey": "2"}]',
        '[{"ProductKey": "1"}] x',
        '[{"ProductKey": "1"}][{"ProductKey": "2"}]',
        '[{"ProductKey": "1"}]\x1a[{"ProductKey": "2"}]',
    ],
)
def test_broken_json_sends_nothing(text: str) -> None:
    """Where the JSON breaks off, the devices before it are not sent either, and their count says where."""
    manifest = read(text)
    assert reason(manifest) == "not-a-manifest"
    assert "after 1 whole device" in said(manifest)
    assert devices(manifest) == []


@pytest.mark.parametrize("text", ["{}", '{"Devices": "none"}', '{"BatchId": "A", "Items": []}', '{"a":' * 40])
def test_json_of_another_shape(text: str) -> None:
    """JSON that is no device manifest is refused as such."""
    assert reason(read(text)) == "not-a-manifest"


@pytest.mark.parametrize("text", ["[" * 1_000_000, '[{"Policies":' + '{"a":' * 1_000_000])
def test_deep_nesting_is_refused(text: str) -> None:
    """A document nested a million deep costs no more than a refusal."""
    manifest = read(text)
    assert (reason(manifest), "levels deep" in said(manifest)) == ("not-a-manifest", True)


@pytest.mark.parametrize("member", ["BatchId", "CustomerId"])
def test_heading_must_be_text(member: str) -> None:
    """A batch or customer id that is no string is refused by its name."""
    manifest = read(f'{{"{member}": 7, "Devices": [{{"ProductKey": "1"}}]}}')
    assert (reason(manifest), member in said(manifest)) == ("invalid-value", True)


def test_samples(samples: Path) -> None:
    """Of the API's own texts the two requests are manifests, and no reply is taken for one."""
    read_as = {file.name: read(file.read_bytes(), hash_check="off") for file in samples.glob("*.json")}
    rows = {name: [v.device for v in manifest.verdicts()] for name, manifest in read_as.items() if manifest.rows}
    key = "00329-00000-0003-AA606"
    assert rows == {
        "create_batch.request.json": [Device("1R9-ZNP67", key, "DummyHash123")],
        "add_devices_to_batch.request.json": [Device("2R9-ZNP67", key, f"DummyHash1234{more}") for more in ("", "5")],
    }
    assert {reason(manifest) for name, manifest in read_as.items() if name not in rows} == {"not-a-manifest"}
    assert read_as["create_batch.request.json"].batches == {"SDKTestDeviceBatch": 1}
