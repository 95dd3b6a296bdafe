"""Manifests as separated values: encodings, separators, columns, row numbers, and what is left out."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.examples import hardware_hash
from shared.manifest import Device
from tests.unit.builders import CUSTOMER, HEADER, NAMES, csv_of, device_lists, devices, found, read, reason, said

HEADER_NAMES = {
    "serial_number": ["Device Serial Number", "serial number", "SerialNumber", "SERIAL", "Serial_Number"],
    "product_key": ["Windows Product ID", "product id", "ProductKey", "PKID", "Product-ID"],
    "hardware_hash": ["Hardware Hash", "hardwarehash", "HWHash", "4K HH"],
    "manufacturer": ["Manufacturer name", "MANUFACTURER", "oemManufacturerName", "Make"],
    "model": ["Device model", "Device Model", "Model", "Model Name", "modelName"],
}
columns = st.permutations(NAMES).flatmap(
    lambda order: st.tuples(*(st.tuples(st.just(f), st.sampled_from(HEADER_NAMES[f])) for f in order))
)


@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le"])
@given(expected=device_lists(), columns=columns)
def test_written_devices_read_back(
    encoding: str, separator: str, expected: list[Device], columns: list[tuple[str, str]]
) -> None:
    """Any devices, in any encoding, separator, column order and column names, are read value for value."""
    text = csv_of(expected, columns, separator)
    data = ("\ufeff" + text if encoding == "utf-16-le" else text).encode(encoding)
    assert devices(read(data)) == expected


@pytest.mark.parametrize(("field", "name"), [(f, n) for f, names in HEADER_NAMES.items() for n in names])
def test_column_names(field: str, name: str) -> None:
    """A column is known by any of the names that suppliers give it."""
    others = [(f, HEADER_NAMES[f][0]) for f in NAMES if f != field]
    device = Device("S", "1", "HASH", "M", "N")
    assert devices(read(csv_of([device], [(field, name), *others]))) == [device]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_row_is_the_line_of_a_text_editor(end: str) -> None:
    """Blank lines and quoted line breaks count, whatever ends the lines."""
    text = end.join(["", "Product ID,Model", "", "1,", '2,"a', 'b"', ",,", "3,", '4,"""x"""', "", ""])
    manifest = read(text, bad_rows_allowed=100)
    assert [(v.row, v.device.product_key) for v in manifest.verdicts()] == [
        (4, "1"),
        (5, "2"),
        (6, ""),
        (8, "3"),
        (9, "4"),
    ]
    assert {(5, "ragged-row"), (6, "ragged-row")} <= set(found(manifest))


def test_quoted_header_may_span_lines() -> None:
    """A header with a line break in a name is read, and the rows below it keep their lines."""
    assert [v.row for v in read('"Product\nID",Model\n1,\n').verdicts()] == [3]


@pytest.mark.parametrize("header", ['Serial,Make,Model,"Note', 'T0,HP,"Slate\n"Serial","Make","Model"'])
def test_a_header_swallows_no_device(header: str) -> None:
    """A quotation mark that opens in it and closes in a row further down would take the rows between for a name."""
    manifest = read(f'{header}\nS1,HP,Slate,\nS2,HP,Slate,"x"\nS3,HP,Slate,\n', bad_rows_allowed=90)
    assert found(manifest) == [(1, "unknown-columns")]


def test_empty_rows_above_the_header() -> None:
    """A spreadsheet's empty rows are separators alone."""
    assert [v.row for v in read(',,\n; ;\n"","",""\nSerial,Make,Model\nS,M,N\n').verdicts()] == [5]


def test_mixed_line_ends_and_none_at_the_end() -> None:
    """One file may end its lines in three ways, and the last not at all."""
    assert [v.row for v in read("Product ID\r\n1\r2\n3").verdicts()] == [2, 3, 4]


def test_control_z_at_the_end() -> None:
    """The Ctrl-Z that old programs write after the last line is no device."""
    manifest = read(b"Product ID\r\n1\r\n\x1a")
    assert (devices(manifest), found(manifest)) == ([Device(product_key="1")], [])


def test_footer_of_the_template() -> None:
    """All below the template's explanation is left out with a warning a row; rows of commas without."""
    manifest = read(f"{HEADER},\n,1,,,,\n,,,,,\nSAMPLE EXPLAINED (remove it),,,,,\nLine 2 illustrates,,,,,\n,2,,,,\n")
    assert devices(manifest) == [Device(product_key="1")]
    assert found(manifest) == [(4, "ignored-row"), (5, "ignored-row"), (6, "ignored-row")]


def test_value_beyond_the_last_column_is_ragged() -> None:
    """An unquoted separator in a value shifts the columns: such a row is held back, and told how to mend it."""
    manifest = read(f"{HEADER}\nS,1,,Contoso, Ltd.,Slate\n")
    assert found(manifest) == [(2, "ragged-row")]
    assert "quotation marks" in said(manifest)


@pytest.mark.parametrize("line", ["S,Contoso, Ltd.,Slate,", '"S","Contoso","Ltd.","Slate",""'])
def test_a_value_in_a_column_without_name_at_the_end_is_ragged(line: str) -> None:
    """A header that goes on in empty fields makes no room for what a separator has shifted."""
    manifest = read(f"Serial,Make,Model,,\n{line}\nT,Contoso,Slate,,\n", bad_rows_allowed=50)
    assert found(manifest) == [(2, "ragged-row")]
    assert devices(manifest) == [Device("T", "", "", "Contoso", "Slate")]


def test_short_rows_and_empty_fields_beyond_are_no_fault() -> None:
    """A row may stop early, or go on with empty fields."""
    manifest = read(f"{HEADER}\nS,1\n,2,,,,,,\n")
    assert [d.product_key for d in devices(manifest)] == ["1", "2"]
    assert found(manifest) == []


def test_columns_that_mean_nothing_are_ignored_aloud() -> None:
    """An order number is no group tag: its column is left out with a warning, and a nameless one without."""
    manifest = read("Product ID,Order ID,,Assigned User\n3312345678901,77,x,me\n")
    assert found(manifest) == [(1, "ignored-column"), (1, "ignored-column")]
    assert [f.column for f in manifest.findings] == ["Order ID", "Assigned User"]
    assert list(manifest.batches) == ["Standard"]


def test_values_are_kept_but_for_outer_white_space() -> None:
    """Leading zeros, inner spaces and dashes of a serial stay."""
    assert devices(read("Serial,Product ID\n  00 1-2  ,\t007\n")) == [Device("00 1-2", "007")]


def test_group_tag_sends_rows_to_batches() -> None:
    """Rows with different tags go to different batches; case makes no difference, and the first spelling stands."""
    assert read("Product ID,Group Tag\n1,Kiosk\n2,KIOSK\n3,\n4,Lab\n").batches == {"Kiosk": 2, "Standard": 1, "Lab": 1}


@pytest.mark.parametrize(("claimed", "goes"), [(CUSTOMER.upper(), 2), (f"{{{CUSTOMER}}}", 2), ("", 2), ("other", 1)])
def test_tenant_column_must_agree(claimed: str, goes: int) -> None:
    """A row whose tenant column names another customer than the folder is held back."""
    manifest = read(f"Product ID,Tenant ID\n1,{claimed}\n2,\n", bad_rows_allowed=50)
    assert len(devices(manifest)) == goes
    assert found(manifest) == ([] if goes == 2 else [(2, "customer-mismatch")])


@pytest.mark.parametrize(
    ("header", "words"), [("a,b,c", "“a”, “b” and “c”"), ("Serial,Serial number", "“Serial” and “Serial number”")]
)
def test_columns_that_cannot_be_told(header: str, words: str) -> None:
    """No known column, or one twice, is refused by the names in the file."""
    manifest = read(f"{header}\n1,2,3\n")
    assert reason(manifest) == "unknown-columns"
    assert words in said(manifest)


@pytest.mark.parametrize(
    ("header", "row"),
    [("Hersteller;Modell;Seriennummer", "HP;Elite;S-{}"), ("Numero,Cle", "S-{},33123456789{}")],
)
def test_a_header_in_another_language_is_no_device(header: str, row: str) -> None:
    """However many rows below it tell what the columns hold."""
    assert reason(read(header + "".join(f"\n{row.format(n, n)}" for n in range(10, 30)))) == "unknown-columns"


@pytest.mark.parametrize("serial", ["a\u200bb", "a\ufffdb", "a\x07b", "x" * 513])
def test_value_that_no_one_typed_is_invalid(serial: str) -> None:
    """Control characters, characters that no font shows, and values far too long are damage."""
    manifest = read(f"Serial,Product ID\n{serial},1\n")
    assert found(manifest) == [(2, "invalid-value")]


@pytest.mark.parametrize("line", ["x" * 131_073, "1," * 70_000, '"' + "x\n" * 70_000])
def test_line_without_end_is_refused(line: str) -> None:
    """A line, or a quoted value, that does not end is no manifest, and is not held in memory."""
    assert reason(read(f"Product ID\n{line}\n")) == "not-a-manifest"


def test_a_quotation_mark_that_never_closes_swallows_nothing() -> None:
    """Every line behind it is a bad row: devices may be among them, and none may vanish unsaid."""
    manifest = read('Serial,Make,Model,Comment\nS0,M,N,\nS1,M,N,"urgent\nS2,M,N,\nS3,M,N,\n')
    assert manifest.rows == 4
    assert [row for row, code in found(manifest) if code == "ragged-row"] == [3, 4, 5]
    assert reason(manifest) == "ragged-row"


@pytest.mark.parametrize(
    "line", ['S,M,"14" N"', '"S","M","14" N"', '"S","x"",M,"N"', 'S,M,"N', 'S,M,"N"x', ' "S" ,M, "14" N"']
)
def test_a_value_with_a_stray_quotation_mark_is_ragged(line: str) -> None:
    """It would go without that mark, as another model than was written."""
    manifest = read(f"Serial,Make,Model\nT,M,N\n{line}", bad_rows_allowed=50)
    assert devices(manifest) == [Device("T", "", "", "M", "N")]
    assert (3, "ragged-row") in found(manifest)


@pytest.mark.parametrize("separator", ",;\t|")
@pytest.mark.parametrize("row", ['S,M,14" N', '"S",M,"14"" N"', ' "S" , M ,"14"" N" ', '"S","M","14"" N"'])
def test_a_quotation_mark_of_an_inch_stays(row: str, separator: str) -> None:
    """Unquoted, or doubled between quotation marks."""
    manifest = read(f"Serial,Make,Model\n{row}\n".replace(",", separator))
    assert (devices(manifest), found(manifest)) == ([Device("S", "", "", "M", '14" N')], [])


def test_a_header_in_the_middle_is_no_device() -> None:
    """Joined files repeat it."""
    manifest = read("Serial,Make,Model\nS0,M,N\nSerial,Make,Model\nS1,M,N\n")
    assert found(manifest) == [(3, "ignored-row")]
    assert len(devices(manifest)) == 2


@pytest.mark.parametrize("end", ["", ",x"])
def test_the_header_of_another_file_is_no_device(end: str) -> None:
    """One name of ours in its own column tells, whatever the others are."""
    manifest = read(f"Serial,Make,Model\nS0,M,N\nSerial Number,Brand,Type{end}\n")
    assert devices(manifest) == [Device("S0", "", "", "M", "N")]
    assert (3, "ignored-row") in found(manifest)
    assert devices(read("PKID\n1\nProduct ID\n2\n")) == [Device("", "1"), Device("", "2")]


def test_a_comma_too_many_does_not_make_a_group_tag() -> None:
    """A tag cannot be undone: a row wider than a header with tags is bad, even where nothing stands beyond."""
    manifest = read("Serial,Manufacturer,Model,Group Tag\nS1,HP,EliteBook 840, 14 inch,\n")
    assert found(manifest) == [(2, "ragged-row")]


def test_an_explanation_swallows_no_device() -> None:
    """A quotation mark that opens below the template's list makes bad rows of what follows, as anywhere."""
    manifest = read('PKID\n1\nSAMPLE EXPLAINED\n"Line 2\nPKID\n2\n3\n', bad_rows_allowed=90)
    assert [row for row, code in found(manifest) if code == "ragged-row"] == [4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("\n" * 2_000_001, "manifest-too-large"),
        ('{"PKID": "1"}\n{}\n' + "\n" * 2_000_000, "manifest-too-large"),
        ("PKID\n" * 10_002, "not-a-manifest"),
        ("PKID\nSAMPLE EXPLAINED\n" + "x\n" * 10_000, "not-a-manifest"),
        (",".join(["PKID", *map(str, range(1_000))]), "unknown-columns"),
        ("PKID,Group Tag\n" + "".join(f"{n},{n}\n" for n in range(10_002)), "too-many-batches"),
    ],
    ids=["blank lines", "blank lines in JSON", "headers", "explanation", "columns", "group tags"],
)
def test_what_is_no_device_is_bounded_too(text: str, code: str) -> None:
    """Far more of it than any list has is refused, before it has cost minutes or memory."""
    assert reason(read(text)) == code


PROVED = hardware_hash("S-1", "Contoso", "Slate")
SERIALS = [
    "Serial number",
    "S-1",
    "S-2",
    "None",
    "0",
    "000-0",
    "1E+05",
    "#N/A",
    "<a>",
    "a\u200bb",
    "a\ufffdb",
    "x" * 130,
    "x" * 600,
    "é",
]
PRODUCT_KEYS = ["3312345678902", "0" * 13, "1234567890123x", "٣" * 13, "Windows 11", "Product ID"]
MAKERS = ["Slate", "Model", "PKID", "x" * 200, "a\u200bb", "#N/A", "None"]


def mostly(usual: Sequence[str], odd: Sequence[str]) -> st.SearchStrategy[str]:
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(odd if n == 0 else usual))


odd_rows = st.lists(
    st.tuples(
        *(mostly(["S-1", "S-2"], SERIALS), mostly(["", "3312345678901"], PRODUCT_KEYS)),
        *(mostly(["", PROVED], [PROVED[:-4], "None"]), mostly(["Contoso"], MAKERS), mostly(["Slate"], MAKERS)),
        mostly([""], ["Kiosk", "t" * 300]),
    ),
    min_size=1,
    max_size=2,
)


@pytest.mark.parametrize("hash_check", ["verify", "off"])
@settings(max_examples=500)
@given(rows=odd_rows)
def test_a_row_is_read_the_same_in_a_block_and_alone(rows: list[tuple[str, ...]], hash_check: str) -> None:
    """What is told of many rows at once is what would be told of each."""
    header = f"{HEADER},Group Tag,Note\n"
    together = header + "".join(",".join(row) + ",x\n" for row in rows)
    singly = header + "".join(",".join(row) + ',"x"\n' for row in rows)
    plain, examined = (read(t, bad_rows_allowed=100, hash_check=hash_check) for t in (together, singly))
    assert list(plain.verdicts()) == list(examined.verdicts())
    assert (plain.findings, plain.batches, plain.refusal) == (examined.findings, examined.batches, examined.refusal)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("shift", range(4))
def test_lines_are_whole_wherever_a_block_ends(end: str, shift: int) -> None:
    """A line, and the two characters of its end, may lie on both sides."""
    rows = end.join(f"{n:0{9 + shift}d},M,N" for n in range(1, 14_000))
    manifest = read(f"Serial,Make,Model{end}{rows}{end}", hash_check="off")
    assert [(v.row, int(v.device.serial_number)) for v in manifest.verdicts()] == [(n + 1, n) for n in range(1, 14_000)]


def test_twins_are_found_across_blocks() -> None:
    """However far apart, and whether their rows were plain or not."""
    rows = [f"S-{n},M,N" for n in range(5_000)]
    manifest = read("Serial,Make,Model\n" + "\n".join([*rows, '"S-0",M,N', "S-4999,M,O"]), bad_rows_allowed=1)
    assert found(manifest) == [
        (5001, "conflicting-duplicate"),
        (5002, "duplicate-device"),
        (5003, "conflicting-duplicate"),
    ]
    assert manifest.devices == 4_999


def test_blank_lines_without_end_cost_little() -> None:
    """Hundreds of thousands of them before the header, and after."""
    assert devices(read("\n" * 300_000 + "PKID\n" + "\r" * 300_000 + "3312345678901")) == [Device("", "3312345678901")]
