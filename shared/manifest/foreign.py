"""What is no manifest, named as what it is: by its first bytes, never by its file name."""

from shared.manifest.findings import Code, Refused

LOOK_AHEAD = 4096
_SEND_THE_LIST = "Send the device list itself, as CSV or JSON"
_UNPACK_IT = "Unpack it, and drop the device list that is in it"

_MARKS = {
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind, or one with a password. Save it as CSV",
    b"%PDF-": f"a PDF document. {_SEND_THE_LIST}",
    b"{\\rtf": f"an RTF document. {_SEND_THE_LIST}",
    b"\x89PNG": f"a picture. {_SEND_THE_LIST}",
    b"\xff\xd8\xff": f"a picture. {_SEND_THE_LIST}",
    b"GIF87a": f"a picture. {_SEND_THE_LIST}",
    b"GIF89a": f"a picture. {_SEND_THE_LIST}",
    b"II*\x00": f"a picture. {_SEND_THE_LIST}",
    b"MM\x00*": f"a picture. {_SEND_THE_LIST}",
    b"\x1f\x8b": "a gzip archive within a gzip archive. Compress the device list once",
    b"7z\xbc\xaf\x27\x1c": f"a 7-Zip archive. {_UNPACK_IT}",
    b"Rar!\x1a\x07": f"a RAR archive. {_UNPACK_IT}",
    b"MSCF\x00\x00\x00\x00": f"a cabinet archive. {_UNPACK_IT}",
    b"\x28\xb5\x2f\xfd": f"a Zstandard archive. {_UNPACK_IT}",
    b"\xfd7zXZ\x00": f"an XZ archive. {_UNPACK_IT}",
    b"BZh": f"a bzip2 archive. {_UNPACK_IT}",
}
_OFFICE_BEGINS_WITH = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"xl/")


def refuse_foreign(start: bytes) -> None:
    """Raise Refused if a file that starts so (its first `LOOK_AHEAD` bytes) is something else than text."""
    what = next((what for mark, what in _MARKS.items() if start.startswith(mark)), "")
    if start.startswith(b"PK\x03\x04"):
        what = _zip(start)
    elif start[257:262] == b"ustar":
        what = f"a tar archive. {_UNPACK_IT}"
    if what:
        raise Refused(Code.NOT_A_MANIFEST, f"The file is {what}, and drop it again.")


def _zip(start: bytes) -> str:
    """A workbook is a zip archive, too: its first entry tells."""
    first_entry = start[30 : 30 + int.from_bytes(start[26:28], "little")]
    if first_entry == b"mimetype" and b"opendocument.spreadsheet" in start:
        return "an OpenDocument spreadsheet. Save it as CSV"
    if not first_entry.startswith(_OFFICE_BEGINS_WITH):
        return f"a zip archive. {_UNPACK_IT}"
    return f"a Word document. {_SEND_THE_LIST}" if b"word/" in start else "an Excel workbook. Save it as CSV"
