"""Manifests as XML: OA3Tool's report, and what only looks like it."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.manifest import Device
from tests.unit.builders import HASH, devices, found, read, reason, said

# What the tool writes for one device. (The licence key is none.)
REPORT = f"""<?xml version="1.0" encoding="utf-8"?>
<Key>
  <ProductKey>XXXXX-XXXXX-XXXXX-XXXXX-XXXXX</ProductKey>
  <ProductKeyID>3305250123456</ProductKeyID>
  <ProductKeyState>3</ProductKeyState>
  <ProductKeyPartNumber>X00-00000</ProductKeyPartNumber>
  <HardwareHash>{HASH}</HardwareHash>
  <OEMOptionalInfo><Field><Name>SerialNumber</Name><Value>other</Value></Field></OEMOptionalInfo>
  <TrackingInfo/>
</Key>
"""


def keys_of(*devices: dict[str, str]) -> str:
    rows = ("".join(f"<{n}>{escape(v)}</{n}>" for n, v in device.items()) for device in devices)
    return f"<Keys>{''.join(f'<Key>{row}</Key>' for row in rows)}</Keys>"


def test_report_of_one_key() -> None:
    """The key's id and the hash are read, and nothing that is the tool's own is spoken of."""
    manifest = read(REPORT)
    assert devices(manifest) == [Device(product_key="3305250123456", hardware_hash=HASH)]
    assert found(manifest) == [(1, "hash-unverified")]


def test_report_of_several_keys_is_numbered_by_them() -> None:
    """The rows of a report are its keys, from 1."""
    manifest = read(keys_of({"ProductKeyID": "1"}, {"Colour": "red"}, {"ProductKeyID": "3"}), bad_rows_allowed=50)
    assert [(v.row, v.device.product_key) for v in manifest.verdicts()] == [(1, "1"), (2, ""), (3, "3")]
    assert sorted(found(manifest)) == [(2, "ignored-column"), (2, "unidentified-device")]


@pytest.mark.parametrize(
    "text",
    [
        '<Keys xmlns="urn:x"><Key><ProductKeyID>1</ProductKeyID></Key></Keys>',
        '<o:keys xmlns:o="urn:x"><o:key><o:productkeyid> 1\n</o:productkeyid></o:key></o:keys>',
        "<Report><Part><KEY><PRODUCTKEYID>1</PRODUCTKEYID></KEY></Part></Report>",
        "<!-- of today --><Key><ProductKeyID><![CDATA[1]]></ProductKeyID></Key>\x1a",
        f"<!--{'x' * 16_373}--><Key\na='1'><ProductKeyID>1</ProductKeyID></Key>",
        "\r\n<?xml version='1.0' encoding='windows-1252'?><Key><ProductKeyID>&#49;</ProductKeyID></Key>",
    ],
    ids=["namespace", "prefix", "other-root", "cdata", "long-comment", "late-declaration"],
)
def test_ways_of_writing_the_same(text: str) -> None:
    """Namespaces, letter case, depth and notation make no difference."""
    assert devices(read(text)) == [Device(product_key="1")]


@pytest.mark.parametrize("end", ["", "\x1a"], ids=["", "ctrl-z"])
def test_no_key_is_lost_wherever_the_file_ends(end: str) -> None:
    """The parser is fed in pieces and may put off what a piece does not finish."""
    keys = keys_of(*({"ProductKeyID": str(n)} for n in range(1, 4)))
    for length in range(16_384 - len(keys) - 2, 16_384 + 2):
        manifest = read(f"<!--{'x' * (length - 7)}-->{keys}{end}")
        assert [d.product_key for d in devices(manifest)] == ["1", "2", "3"]


def test_serial_manufacturer_and_model_are_used() -> None:
    """Where a report names the device, by our words or by the firmware's, it is known by that."""
    firmware = {"SmbiosSystemSerialNumber": "S1", "SmbiosSystemManufacturer": "M & N", "SmbiosSystemProductName": "O"}
    ours = {"SerialNumber": "S2", "OemManufacturerName": "M", "ModelName": "O", "GroupTag": "Kiosk"}
    manifest = read(keys_of(firmware, ours))
    assert devices(manifest) == [
        Device(serial_number=s, manufacturer=m, model="O") for s, m in (("S1", "M & N"), ("S2", "M"))
    ]
    assert manifest.batches == {"Standard": 1, "Kiosk": 1}


def test_zeros_are_no_product_key_id() -> None:
    """A device without a key has zeros for its id: alone they identify nothing."""
    manifest = read(
        keys_of({"ProductKeyID": "0" * 13, "HardwareHash": HASH}, {"ProductKeyID": "0" * 13}), bad_rows_allowed=50
    )
    assert devices(manifest) == [Device(hardware_hash=HASH)]
    assert found(manifest) == [(1, "hash-unverified"), (2, "unidentified-device")]


def test_member_said_twice_is_invalid() -> None:
    """Which of two serials is right, we do not guess."""
    manifest = read("<Key><ProductKeyID>1</ProductKeyID><Serial>S</Serial><SerialNumber>T</SerialNumber></Key>")
    assert (reason(manifest), "“SerialNumber” says again" in said(manifest)) == ("invalid-value", True)


def test_elements_without_end_are_refused() -> None:
    """Each costs a call, and no report has as many."""
    assert "not a report" in said(read([b"<Keys>", *[b"<a/>" * 100_000] * 21]))


def test_licence_key_is_never_repeated() -> None:
    """It is worth money, and no finding is the place for it."""
    assert "XXXXX-" not in said(read(REPORT.replace("<ProductKeyID>3305250123456</ProductKeyID>", "")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<!DOCTYPE html><html><p>Sign in", "web page"),
        ("\n<!doctype HTML>", "web page"),
        ("<HTML lang=de>", "web page"),
        ("<?xml version='1.0'?><!-- x --><html xmlns='http://www.w3.org/1999/xhtml'/>", "web page"),
        ("<table><tr><td>1", "web page"),
        ("<?xml version='1.0'?><!DOCTYPE Key SYSTEM 'file:///etc/passwd'><Key/>", "<!DOCTYPE>"),
        ("<!DOCTYPE k [<!ENTITY a 'x'><!ENTITY b '&a;&a;'>]><Key>&b;</Key>", "<!DOCTYPE>"),
        ("<HardwareReport><p n='SmbiosSystemSerialNumber' v='1'/></HardwareReport>", "<ProductKeyID>"),
        ("<Workbook/>", "<ProductKeyID>"),
        ("<a>" * 40, "<ProductKeyID>"),
        ("<Key><Model>AT&T</Model></Key>", "&amp;"),
        ("<Key><Model>&unknown;</Model></Key>", "&amp;"),
        ("<Keys><Key><ProductKeyID>1</ProductKeyID></Key>\n<Key>", "line 2, after 1 whole"),
        (REPORT + REPORT, "after 1 whole"),
        (REPORT + "\x1a" + REPORT, "after 1 whole"),
    ],
)
def test_xml_that_is_no_report_is_refused(text: str, words: str) -> None:
    """A web page, a document type, another shape or a broken end: each is named, and nothing is sent."""
    manifest = read(text)
    assert (reason(manifest), words in said(manifest)) == ("not-a-manifest", True)
    assert devices(manifest) == []


@pytest.mark.parametrize("text", ["<Keys/>", "<keys>\n</keys>"])
def test_report_of_no_keys_is_empty(text: str) -> None:
    """It is of the right shape, but holds no device."""
    assert reason(read(text)) == "empty-manifest"


def test_value_without_end_is_invalid() -> None:
    """A value far too long is a bad row like any other."""
    manifest = read(keys_of({"ProductKeyID": "1" * 100_000}, {"ProductKeyID": "1"}), bad_rows_allowed=50)
    assert found(manifest) == [(1, "invalid-value")]


@given(
    st.lists(
        st.sampled_from(
            [
                "<Key>",
                "</Key>",
                "<Keys>",
                "</Keys>",
                "<ProductKeyID>",
                "1",
                "</ProductKeyID>",
                "&",
                "<!--",
                "-->",
                "]]>",
                "<?x ?>",
            ]
        )
    )
)
def test_any_tags_end_in_an_answer(pieces: Sequence[str]) -> None:
    """Whatever begins like a report ends in devices or findings."""
    manifest = read("<Keys>" + "".join(pieces))
    assert devices(manifest) or manifest.findings
