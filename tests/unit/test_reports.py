"""What the supplier reads."""

import csv
import io
import json
import re

import pytest

from shared.manifest import Code, Finding, resend_csv
from shared.plan import Plan
from shared.reports import latest_name, own_name, report_json, report_url
from tests.unit.builders import (
    CUSTOMER,
    HASH,
    HEADER,
    NOW,
    batches,
    destination,
    draft,
    json_of,
    keys,
    read,
    rows_of,
    upload,
)

OTHER_CUSTOMER = "47021739-3426-40bf-9601-61b4b6d7c793"
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "＝1+1"]


def csv_report(data: str, to: object = None, **limits: int) -> list[dict[str, str]]:
    with draft(data, to, **limits) as made:
        assert made.plan.report_csv is not None
        return rows_of(made.read(made.plan.report_csv))


def resend(data: str, **limits: int) -> bytes:
    with draft(data, **limits) as made:
        assert made.plan.resend_csv is not None
        return made.read(made.plan.resend_csv)


def saved_by_a_spreadsheet(data: bytes) -> bytes:
    """All rows are as long as the longest that has a value."""
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    width = max(n for row in rows for n, value in enumerate(row, 1) if value)
    text = io.StringIO(newline="")
    csv.writer(text).writerows((row + [""] * width)[:width] for row in rows)
    return text.getvalue().encode()


def planned(data: str, **limits: int) -> Plan:
    with draft(data, **limits) as made:
        return made.plan


def test_report_has_the_documented_shape() -> None:
    """The report's members are the documented ones, and say what was found in which row."""
    plan = planned(keys(1, 0), bad_rows_allowed=50)
    report = json.loads(report_json(plan, "submitted", NOW, locations={"Standard": ["/customers/x", None]}))
    assert report.pop("manifest") == {
        "id": plan.upload.id,
        "container": "manifests",
        "name": "contoso/list.csv",
        "etag": "0x8DD0",
        "sha256": plan.sha256,
        "received": "2026-11-22T10:00:00Z",
    }
    (finding,) = report.pop("findings")
    assert report == {
        "state": "submitted",
        "verdict": "accepted-with-errors",
        "updated": "2026-11-22T10:00:00Z",
        "customerId": CUSTOMER,
        "rows": 2,
        "devices": 1,
        "findingCounts": {"unidentified-device": 1},
        "batches": [{"batchId": "Standard", "devices": 1, "locations": ["/customers/x", None]}],
    }
    assert "alone is not enough" in finding.pop("message")
    assert finding == {"row": 3, "column": "", "code": "unidentified-device", "severity": "error"}


@pytest.mark.parametrize("char", ["x", "東", "😀"])
def test_reports_of_the_longest_name_have_names_that_storage_takes(char: str) -> None:
    """Its 1,024 characters are UTF-16's, of which an emoji is two."""
    name = f"contoso/a{char * 1_015}".encode("utf-16-le")[:2_048].decode("utf-16-le", "ignore")
    for report in (latest_name(upload(name)), own_name(upload(name), "resend.csv")):
        assert len(report.encode("utf-16-le")) <= 2_048
        assert report.startswith("contoso/a" + char)


def test_report_of_a_refused_request() -> None:
    """What Partner Center refused stands among the findings, and the verdict is no longer plain."""
    refused = Finding(Code.REFUSED_BY_PARTNER_CENTER, "No.", 2)
    report = json.loads(report_json(planned(keys(1)), "submitted", NOW, refused=[refused]))
    assert report["verdict"] == "accepted-with-errors"
    assert report["findingCounts"] == {"refused-by-partner-center": 1}
    assert [f["code"] for f in report["findings"]] == ["refused-by-partner-center"]


def test_report_of_a_duplicate_names_the_first() -> None:
    """Whoever drops a file again reads which upload was the first."""
    report = json.loads(report_json(planned(keys(1)), "received", NOW, duplicate_of="0123456789ab"))
    assert (report["verdict"], report["duplicateOf"]) == ("duplicate", "0123456789ab")


def test_report_holds_at_most_a_thousand_findings_and_the_csv_all() -> None:
    """A thousand findings are enough for JSON; the CSV leaves none out."""
    data = keys(*[0] * 1_500)
    refused = Finding(Code.REFUSED_BY_PARTNER_CENTER, "No.", 2)
    report = json.loads(report_json(planned(data), "received", NOW, refused=[refused]))
    assert len(report["findings"]) == 1_000
    assert report["findingCounts"] == {"unidentified-device": 1_500, "refused-by-partner-center": 1}
    assert [r["row"] for r in csv_report(data) if r["row"]] == [str(n) for n in range(2, 1_502)]


def test_names_of_reports() -> None:
    """An upload's own report has its time and id in its name, which the next upload of that name cannot have."""
    first = upload("contoso/März 1.csv")
    assert latest_name(first) == "contoso/März 1.csv.report.json"
    assert own_name(first, "resend.csv") == f"contoso/März 1.csv.20261122T100000Z-{first.id}.resend.csv"
    assert own_name(first, "report.csv") != own_name(upload("contoso/März 1.csv", "other"), "report.csv")
    address = f"contoso/M%C3%A4rz%201.csv.20261122T100000Z-{first.id}.report.json"
    assert report_url(first) == f"https://drop.blob.core.windows.net/manifest-reports/{address}"


def test_csv_says_of_each_row_what_became_of_it() -> None:
    """Every row has its verdict: accepted, rejected, or not sent because it stands there twice."""
    rows = csv_report(keys(1, 0, 1), bad_rows_allowed=50)
    assert ",".join(rows[0]) == "row,serial,product_key,manufacturer,model,batch,verdict,code,message"
    assert [(r["row"], r["verdict"], r["code"]) for r in rows] == [
        ("2", "accepted", ""),
        ("3", "rejected", "unidentified-device"),
        ("4", "not-sent", "duplicate-device"),
    ]


def test_csv_of_a_rejected_manifest_accepts_no_row() -> None:
    """Where the whole manifest is refused, its good rows were not sent either, and the CSV says why."""
    rows = csv_report(keys(1, 0))
    assert {r["row"]: r["verdict"] for r in rows} == {"": "", "2": "not-sent", "3": "rejected"}
    assert "1 of 2 rows" in rows[0]["message"]


@pytest.mark.parametrize("cell", FORMULAS)
def test_formula_is_escaped_in_the_report_and_not_in_the_file_to_resend(cell: str) -> None:
    """A cell that a spreadsheet would run is made text in the report; the rows to resend are exactly as sent."""
    data = f"{HEADER},Group Tag\n{cell},,,{cell},,{cell}\n,1,,,,\n"
    bad, *_ = (r for r in csv_report(data, bad_rows_allowed=50) if r["row"] == "2")
    assert (bad["serial"], bad["manufacturer"], bad["batch"]) == (f"'{cell}",) * 3
    (again,) = rows_of(resend(data, bad_rows_allowed=50))
    assert [again[c] for c in ("Device Serial Number", "Manufacturer name", "Group Tag")] == [cell] * 3


@pytest.mark.parametrize(("cell", "shown"), [("a;=1+1", "a;'=1+1"), ("a\u202eb\x07", "a\ufffdb\ufffd")])
def test_cell_is_what_it_shows(cell: str, shown: str) -> None:
    """Nothing runs where a semicolon begins another cell, and nothing turns the text around or rings a bell."""
    (row,) = (
        r
        for r in csv_report(f"Serial,PKID,Model\n{cell},,{cell}\n")
        if r["row"] == "2" and r["code"] == "unidentified-device"
    )
    assert (row["serial"], row["model"]) == (shown, shown)


def test_resend_file_holds_the_bad_rows_and_no_other() -> None:
    """Rows that went, and twins that were left out, are not asked for again."""
    assert resend(keys(1, 0, 1), bad_rows_allowed=50).decode("utf-8-sig").splitlines() == [
        f"{HEADER},Group Tag",
        ",,,,Slate 2,Standard",
    ]


@pytest.mark.parametrize(
    "data",
    [keys(1, 2), keys(1, 1), keys(1, 0), json_of([{}, *({"ProductKey": str(n)} for n in range(1, 10))])],
    ids=["all-good", "twins", "rejected", "blank"],
)
def test_nothing_to_resend(data: str) -> None:
    """Where every row went, where none did, and where a bad one holds nothing, there is no file to resend."""
    with draft(data) as made:
        assert made.plan.resend_csv is None


@pytest.mark.parametrize(
    "data",
    [
        f'Serial,PKID,HWHash,Make,Model,Group Tag\nS1,1,{HASH},"Contoso, Ltd.",x,Kiosk\nS1,2,,é ""x,"a\nb",\n,3,,,,\n',
        json_of([{"SerialNumber": "=S", "HardwareHash": h} for h in (HASH, "X", "Y")] + [{"ProductKey": "1"}]),
        json_of([{"SerialNumber": "S", "ProductKey": p} for p in "12"] + [{"ProductKey": "3"}], BatchId="Lab"),
    ],
    ids=["csv", "json", "json-batch"],
)
def test_resend_file_is_a_manifest_of_the_same_rows(data: str) -> None:
    """Dropped unchanged, the rows to resend are read as the same devices for the same batches."""
    sent = {
        (v.device, v.batch_id) for v in read(data, bad_rows_allowed=90).verdicts() if v.is_bad and not v.device.is_blank
    }
    again = read(resend(data, bad_rows_allowed=90), destination(default_batch="Other"))
    assert len(sent) >= 2
    assert {(v.device, v.batch_id) for v in again.verdicts() if not v.device.is_blank} == sent


@pytest.mark.parametrize(
    "data",
    [
        "Serial,Make,Model\nS,Contoso, Ltd,Slate\nT,Contoso,Slate\n",
        "Model,Product ID,Group Tag\n7, black,1,\n7,2,\n",
        "Serial,Make,Model,Group Tag\nS,HP,Elite, 14 inch,\nT,HP,Elite,\n",
        f"Product ID,Tenant ID\n1,{OTHER_CUSTOMER}\n2,\n",
        f"Product ID,Group Tag,Customer ID\n1,Kiosk,{OTHER_CUSTOMER}\n2,,\n",
        "Serial,Product ID\n1,2\n1,3\n4,5\n",
        f"Product ID,Hardware Hash\n1,{HASH}…\n2,\n",
        "Product ID,Group Tag\n1,a/b\n2,\n",
        'Serial,Product ID\n"1,2\n2,3",4\n5,6\n',
        'Serial,Make,Model\nS,M,"14" N"\nT,M,N\n',
        'Serial,Make,Model,Note\nS,M,N,"a\nT,M,N,"\nU,M,N,\n',
        json_of([{"SerialNumber": 7, "ProductKey": "1"}, {"ProductKey": "2"}]),
        json_of([{"GroupTag": 7, "ProductKey": "1"}, {"ProductKey": "2"}]),
        "<Keys><Key><PKID>1</PKID><PKID>2</PKID></Key><Key><PKID>3</PKID></Key></Keys>",
    ],
    ids=[
        "comma",
        "shifted",
        "tag",
        "tenant",
        "customer",
        "conflict",
        "hash",
        "batch",
        "quote",
        "inch",
        "note",
        "number",
        "tag-number",
        "twice",
    ],
)
def test_no_row_of_a_resend_file_goes_uncorrected(data: str) -> None:
    """What was wrong with a row is in the file; no device goes because that was lost on the way."""
    again = resend(data, bad_rows_allowed=90)
    for dropped in (again, saved_by_a_spreadsheet(again)):
        manifest = read(dropped, bad_rows_allowed=90)
        assert manifest.rows
        assert all(v.is_bad for v in manifest.verdicts())


def test_excel_shows_the_letters_of_a_resend_file() -> None:
    """Without a mark it would take them for Windows-1252, and save another group tag, in UTF-8, than was meant."""
    assert resend("Product ID,Group Tag,Serial\n1,A,\n,März,S\n", bad_rows_allowed=50).startswith(b"\xef\xbb\xbf")


def test_corrected_resend_file_goes() -> None:
    """Corrected and dropped, the rows go into the batch they were meant for."""
    again = resend("Product ID,Group Tag,Serial\n1,A,\n,B,S\n", bad_rows_allowed=50)
    assert batches(read(again.replace(b"S,,", b"S,7,"))).keys() == {"B"}


@pytest.mark.parametrize(
    "data",
    [
        f"Serial,Hardware Hash\nS,{HASH}\nS,{HASH}X\n",
        f"Serial,Product ID\n{HASH},1\n{HASH[:400]},2\n",
        f"Product ID,Model,Hardware Hash\n{HASH[:500]},{HASH},N\n{HASH[:200]},x,\n",
        f"Product ID,Group Tag\n1,{HASH}\n",
        f"Product ID,{HASH}\n1,x\n",
    ],
    ids=["hash", "serial", "shifted", "tag", "header"],
)
def test_reports_hold_no_hash(data: str) -> None:
    """Not even where columns are swapped or shifted does a hash get into the JSON or the CSV report."""
    with draft(data, bad_rows_allowed=90) as made:
        assert made.plan.report_csv is not None
        told = made.read(made.plan.report_csv) + report_json(made.plan, "received", NOW)
    assert not re.search(rb"[A-Za-z0-9+/=]{65}|R0hJQUJDREVG", told)


def test_large_csv_comes_in_pieces() -> None:
    """A report of many rows is never held whole."""
    with read(keys(*[0] * 40_000), bad_rows_allowed=100) as manifest:
        pieces = list(resend_csv(manifest))
    assert len(pieces) > 1
    assert len(rows_of(b"".join(pieces))) == 40_000
