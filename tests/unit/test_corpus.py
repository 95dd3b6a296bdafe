"""What suppliers really send, variant by variant, and what must be refused (`reference/manifests.md`).

Every text is made here, of synthetic devices; each stands with the devices and findings that it must give.
"""

from dataclasses import dataclass, field

import pytest

from local.examples import hardware_hash
from shared.manifest import Device, Manifest
from tests.unit.builders import batches, devices, read, reason, said

FULL = "Device Serial Number,Windows Product ID,Hardware Hash,Manufacturer name,Device model"
COLLECTOR = "Device Serial Number,Windows Product ID,Hardware Hash"
TEMPLATE = "Device serial number,Windows product ID,Hardware hash,Manufacturer name,Device Model"
KEY, OTHER_KEY = "3312345678901", "3312345678902"
PF, CG = (hardware_hash("PF4K2M7Q", "LENOVO", "21HDCTO1WW"), hardware_hash("5CG3291XKQ", "HP", "HP EliteBook 840"))
HASHED = [Device("PF4K2M7Q", "", PF), Device("5CG3291XKQ", "", CG)]
TUPLES = [Device("PF02NCT8", "", "", "LENOVO", "20B6008MMH"), Device("5CG 01-7", "", "", "HP", "Elite, 14 inch")]
KEYED = [Device("", KEY), Device("", OTHER_KEY)]


@dataclass(frozen=True)
class Sent:
    """A file, and what it is: `findings` are row, code and a word of the message."""

    name: str
    text: str | bytes
    devices: list[Device] = field(default_factory=list)
    findings: list[tuple[int | None, str, str]] = field(default_factory=list)
    reason: str | None = None
    rules: dict[str, object] = field(default_factory=dict)

    def read(self) -> Manifest:
        return read(self.text, **({"bad_rows_allowed": 0} | self.rules))


def lines(*rows: str, end: str = "\r\n") -> str:
    return "".join(row + end for row in rows)


COLLECTED = lines(COLLECTOR, f"PF4K2M7Q,,{PF}", f"5CG3291XKQ,,{CG}")
GUESSED = (1, "guessed-columns", "Name them")
MIXED = lines(FULL, f"PF4K2M7Q,,{PF},,", f",{KEY},,,", "PF02NCT8,,,LENOVO,20B6008MMH", '5CG 01-7,,,HP,"Elite, 14 inch"')

READ = [
    Sent("1 collector", COLLECTED.encode("utf-16"), HASHED),
    Sent("2 collector -Partner", lines(FULL, f"PF4K2M7Q,,{PF},,", f"5CG3291XKQ,,{CG},,").encode("utf-16"), HASHED),
    Sent("2 PowerShell 7", COLLECTED, HASHED),
    Sent(
        "3 template",
        lines(
            TEMPLATE,
            "PF02NCT8,,,LENOVO,20B6008MMH,",
            f",{KEY},,,,",
            ",,,,,",
            "SAMPLE EXPLAINED (remove the following section before uploading),,,,,",
            "Line 2 illustrates the tuple,,,,,",
        ).encode("utf-8-sig"),
        [TUPLES[0], KEYED[0]],
        [(5, "ignored-row", "explanation"), (6, "ignored-row", "explanation")],
    ),
    Sent("4 mixed", MIXED, [HASHED[0], KEYED[0], *TUPLES]),
    Sent("5 all quoted", lines(*(f'"{"\",\"".join(r.split(","))}"' for r in COLLECTED.split("\r\n")[:3])), HASHED),
    Sent("5 plain header, quoted rows", lines(COLLECTOR, f'"PF4K2M7Q","","{PF}"', f'"5CG3291XKQ","","{CG}"'), HASHED),
    Sent("5 typed by PowerShell", lines("#TYPE System.Object", '"Serial","PKID"', f'"","{KEY}"'), KEYED[:1]),
    Sent(
        "5 joined exports of PowerShell",
        "".join(lines("#TYPE Selected.Object", '"Serial","PKID"', f'"","{key}"') for key in (KEY, OTHER_KEY)),
        KEYED,
        [(4, "ignored-row", "how the file was written"), (5, "ignored-row", "names the columns")],
    ),
    Sent("5 a space before the quotation mark", lines('Serial, "PKID"', f', "{KEY}"', f'"", "{OTHER_KEY}"'), KEYED),
    Sent(
        "6 extra columns",
        lines("PKID,Order ID,Profile status", f"{KEY},1,ok", f"{OTHER_KEY},2,ok"),
        KEYED,
        [(1, "ignored-column", "Order ID"), (1, "ignored-column", "Profile status")],
    ),
    Sent(
        "6 more fields than names",
        lines(COLLECTOR, f"PF4K2M7Q,,{PF},x", f"5CG3291XKQ,,{CG},y"),
        HASHED,
        [(2, "ignored-column", "beyond the last column")],
    ),
    Sent(
        "7 other names, other order",
        lines("4K HH; Make ;MODELNAME;serial_number;PKID", f"{PF};;;PF4K2M7Q;", ";LENOVO;20B6008MMH;PF02NCT8;"),
        [HASHED[0], TUPLES[0]],
    ),
    Sent("8 no header, collected", lines(f"PF4K2M7Q,,{PF}", f"5CG3291XKQ,,{CG}"), HASHED, [GUESSED]),
    Sent("8 no header, product ids", lines(f"S-1,{KEY},", f"S-2,{OTHER_KEY},"), [
        Device("S-1", KEY), Device("S-2", OTHER_KEY)], [GUESSED]),
    Sent("8 no header, makers", lines("LENOVO,20B6008MMH,PF02NCT8"), TUPLES[:1], [GUESSED]),
    Sent("9 tab, LF, none at the end", "Serial\tPKID\n\t" + KEY + "\n\t" + OTHER_KEY, KEYED),
    Sent("9 CR", lines("Serial,PKID", f",{KEY}", f",{OTHER_KEY}", end="\r"), KEYED),
    Sent("9 mixed ends, blank lines", f"Serial,PKID\r\n\n,{KEY}\r,{OTHER_KEY}\n\r\n\r\n", KEYED),
    Sent("9 Ctrl-Z", lines("Serial,PKID", f",{KEY}") + "\x1a", KEYED[:1]),
    Sent("9 Ctrl-Z behind the last value", f"Serial,PKID\r\n,{KEY}\x1a", KEYED[:1]),
    Sent("9 Ctrl-Z between joined files", f"PKID\r\n{KEY}\r\n\x1a{OTHER_KEY}\r\n\x1a", KEYED),
    Sent("9 Excel names its separator", lines("sep=|", "Serial|PKID", f"|{KEY}"), KEYED[:1]),
    Sent("9 Excel's separator in quotation marks", lines('"sep=;"', "Serial;PKID", f";{KEY}"), KEYED[:1]),
    Sent("9 a separator that is none", lines('sep="', "Serial,PKID", f",{KEY}"), KEYED[:1]),
    Sent("9 joined files without header", (lines(f"S-1,{KEY},") + "\ufeff" + lines(f"S-2,{OTHER_KEY},")), [
        Device("S-1", KEY), Device("S-2", OTHER_KEY)], [GUESSED]),
    Sent(
        "8 and 9 together",
        ("\ufeff" + lines(f"PF4K2M7Q;;{PF}", f"5CG3291XKQ;;{CG}") + "\x1a").encode("utf-16-le"),
        HASHED,
        [GUESSED],
    ),
    Sent(
        "10 kept byte for byte",
        lines(TEMPLATE, "  00 1-2 ,,, LENOVO ,20B"),
        [Device("00 1-2", "", "", "LENOVO", "20B")],
    ),
    Sent(
        "12 joined files",
        lines("Serial,PKID", f",{KEY}", "PKID,Serial", f"{OTHER_KEY},"),
        KEYED,
        [(3, "ignored-row", "names the columns once more")],
    ),
    Sent(
        "12 joined files, one with other columns",
        lines("Serial,PKID", f",{KEY}", "PKID,Owner,Serial", f"{OTHER_KEY},me,"),
        KEYED,
        [(3, "ignored-row", "names the columns once more"), (3, "ignored-column", "Owner")],
    ),
    Sent(
        "12 joined files of two columns",
        lines("SerialNumber,HardwareHash", f"PF4K2M7Q,{PF}", "SerialNumber,HardwareHash", f"5CG3291XKQ,{CG}"),
        HASHED,
        [(3, "ignored-row", "names the columns once more")],
    ),
    Sent(
        "12 a file behind the template's explanation",
        lines("Serial,PKID", f",{KEY}", "SAMPLE EXPLAINED,", "Line 2,", "Serial,PKID", f",{OTHER_KEY}"),
        KEYED,
        [(3, "ignored-row", "explanation"), (4, "ignored-row", "explanation"), (5, "ignored-row", "once more")],
    ),
    Sent(
        "placeholders beside what identifies",
        lines(FULL, f"To be filled by O.E.M.,0000000000000,{PF},,", f"N/A,{KEY},None,Default string,N/A"),
        [Device("", "", PF), KEYED[0]],
    ),
    Sent("odd product id", lines("PKID", "AB-12"), [Device("", "AB-12")], [(2, "product-key-format", "13 digits")]),
]  # fmt: skip


def refused(name: str, row: str, code: str, word: str, header: str = FULL) -> Sent:
    """A file of one row, which is bad."""
    return Sent(name, lines(header, row), [], [(2, code, word)], code)


PLACEHOLDERS = (
    *("System Serial Number", "To be filled by O.E.M.", "Default string", "None", "0", "123456789", "INVALID"),
    *("<serialNumber>", "{serialNumber}"),
)
REFUSED = [
    refused("product id 3.31E+12", ",3.31E+12,,,", "damaged-by-spreadsheet", "3.31E+12"),
    refused("product id 3,31E+12", ',"3,31E+12",,,', "damaged-by-spreadsheet", "as text"),
    refused("serial 1.2E+07", "1.2E+07,,,HP,Elite", "damaged-by-spreadsheet", "Device Serial Number"),
    refused("a text's mark", f",'{KEY},,,", "damaged-by-spreadsheet", f"'{KEY}"),
    refused("curled quotation marks", "“PF02NCT8”,,,HP,Elite", "damaged-by-spreadsheet", "“PF02NCT8”"),
    refused("model #N/A", "PF02NCT8,,,HP,#N/A", "damaged-by-spreadsheet", "Device model was turned into “#N/A”"),
    refused("group tag #REF!", f"{KEY},#REF!", "invalid-batch-id", "of a spreadsheet", header="PKID,Group Tag"),
    refused("manufacturer not filled in", "S-1,,,To be filled by O.E.M.,X", "placeholder-value", "Manufacturer name"),
    refused("hard space in a model", "S-1,,,HP,Elite\xa0Book", "invalid-value", "U+00A0"),
    refused("serial ####", "#####,,,HP,Elite", "damaged-by-spreadsheet", "#####"),
    refused("hash of a whole cell", f",,{'A' * 32_767},,", "damaged-by-spreadsheet", "cut by a spreadsheet"),
    refused("hash shorter than it says", f",,{PF[:400]},,", "hash-truncated", "400 of 4,000"),
    refused("serial alone", "PF02NCT8,,,,", "unidentified-device", "Device Serial Number alone is not enough"),
    refused("no model", "PF02NCT8,,,LENOVO,", "unidentified-device", "Add Device model"),
    refused("no manufacturer", "PF02NCT8,,,,20B6", "unidentified-device", "Add Manufacturer name"),
    refused("product name", ",Windows 11 Pro,,,", "invalid-value", "no Windows product id"),
    *(
        refused(f"product id {key}", f",{key},,,", "invalid-value", "no Windows product id")
        for key in (f"{KEY}.0", f"{KEY};PF02NCT8", "Total: 12")
    ),
    refused("licence key", ",VK7JG-NPHTM-C97JM-9MPGT-3V66T,,,", "invalid-value", "no Windows product id"),
    *(refused(f"serial {p}", f"{p},,,HP,Elite", "placeholder-value", p) for p in PLACEHOLDERS),
    refused(
        "template as it came", "<serialNumber>,<ProductID>,<hardwareHash>,,", "placeholder-value", "<serialNumber>"
    ),
    refused("comma in a model", "PF02NCT8,,,HP,Elite, 14 inch", "ragged-row", "quotation marks"),
    Sent(
        "rows that contradict",
        lines(FULL, "S-1,,,HP,Elite", "S-1,,,HP,Pro", f"S-2,{KEY},,,"),
        [Device("S-2", KEY)],
        [(2, "conflicting-duplicate", "Row 3"), (3, "conflicting-duplicate", "Row 2")],
        rules={"bad_rows_allowed": 70},
    ),
    Sent("empty", b"", [], [(None, "empty-manifest", "no")], "empty-manifest"),
    *(
        Sent(what, start + b"\0\1\2", [], [(None, "not-a-manifest", what)], "not-a-manifest")
        for what, start in {"zip": b"PK\3\4", "of the old kind": b"\xd0\xcf\x11\xe0", "PDF": b"%PDF-1.7"}.items()
    ),
    Sent("web page", "<!DOCTYPE html><html>", [], [(None, "not-a-manifest", "web page")], "not-a-manifest"),
    Sent(
        "no names, nothing to tell by",
        lines("a,b", "c,d"),
        [],
        [(1, "unknown-columns", "“a” and “b”")],
        "unknown-columns",
    ),
    Sent("serial and order", lines("S-1,PO 7,x"), [], [(1, "unknown-columns", "first line")], "unknown-columns"),
]


@pytest.mark.parametrize("sent", [*READ, *REFUSED], ids=lambda s: s.name)
def test_what_is_sent_is_read_or_refused_in_words_a_supplier_understands(sent: Sent) -> None:
    """As the devices it means and no word more than it must; what is wrong by row, with the code that scripts read."""
    manifest = sent.read()
    assert devices(manifest) == sent.devices
    assert reason(manifest) == sent.reason
    check(manifest, sent)


def check(manifest: Manifest, sent: Sent) -> None:
    found = [f for f in manifest.findings if f is not manifest.refusal or not manifest.rows]
    assert [(f.row, str(f.code)) for f in found] == [(row, code) for row, code, _ in sent.findings]
    for finding, (_, _, word) in zip(found, sent.findings, strict=True):
        assert word in finding.message
        assert PF[:40] not in said(manifest)


def test_an_order_number_is_no_group_tag() -> None:
    """Only a column of that name is one; rows with other tags go to other batches."""
    sent = read(lines("PKID,Group Tag,Order ID", f"{KEY},Kiosk,1", f"{OTHER_KEY},,2"))
    assert batches(sent) == {"Kiosk": KEYED[:1], "Standard": KEYED[1:]}
