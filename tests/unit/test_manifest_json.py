"""Manifests as JSON: the API's request in any letter case, or a bare array."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.manifest import Device
from tests.unit.builders import CUSTOMER, NAMES, device_lists, devices, found, json_of, read, reason, said

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


def test_rows_are_elements_from_1() -> None:
    """JSON has no rows: the element's number stands for it."""
    manifest = read('[{"ProductKey": "1"},\n\n{"SerialNumber": "S"}, 7, {"productKey": 8}]', bad_rows_allowed=90)
    codes = [(2, "unidentified-device"), (3, "invalid-value"), (4, "invalid-value")]
    assert found(manifest) == codes
    assert devices(manifest) == [Device(product_key="1")]


def test_number_for_a_string_is_refused() -> None:
    """A product key written as a number has lost its leading zeros."""
    manifest = read('[{"ProductKey": 7}]')
    assert (reason(manifest), "leading zeros" in said(manifest)) == ("invalid-value", True)


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
        '[{"ProductKey": "1"}, {"ProductKey": "2}]',
        '[{"ProductKey": "1"} {"ProductKey": "2"}]',
        '[{"ProductKey": "1"}] x',
        '[{"ProductKey": "1"}][{"ProductKey": "2"}]',
    ],
)
def test_broken_json_sends_nothing(text: str) -> None:
    """Where the JSON breaks off, the devices before it are not sent either, and their count says where."""
    manifest = read(text)
    assert reason(manifest) == "not-a-manifest"
    assert "after 1 whole device" in said(manifest)
    assert devices(manifest) == []


@pytest.mark.parametrize("text", ["{}", '{"Devices": {}}', '{"BatchId": "A", "Items": []}', '{"a":' * 40])
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
