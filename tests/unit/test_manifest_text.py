"""From bytes to text: encodings, gzip, and what is no text, however the network cuts them."""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.manifest import Device, Refused
from shared.manifest.gzipped import MOST_MEMBERS, unpacked
from shared.manifest.text import open_text
from tests.unit.builders import HEADER, devices, found, read, reason, said

LINES = "Product ID;Model\r\n1;Tablette é\r2;漢字 😀\n"
ANSI = "Product ID;Model\r\n1;Tablette é\r2;“Ü” €\n"
cuts = st.lists(st.integers(0, 300), max_size=8) | st.just(range(300))


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(min(c, len(data)) for c in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def text_of(pieces: Iterable[bytes]) -> str:
    return open_text(pieces)[0].read()


def fault_of(pieces: Iterable[bytes]) -> tuple[str, str, int | None]:
    """What is refused: by code, with the text before it, and where."""
    text = open_text(pieces)[0]
    before: list[str] = []
    with pytest.raises(Refused) as refused:
        before.extend(iter(lambda: text.read(1), ""))
    return str(refused.value.finding.code), "".join(before), refused.value.finding.row


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "unmarked"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@given(places=cuts)
def test_unicode_is_read_with_its_mark_or_without(encoding: str, marked: bool, places: Sequence[int]) -> None:
    """UTF-8 and UTF-16 are known by their mark, else by what their bytes can be."""
    data = ("\ufeff" * marked + LINES).encode(encoding)
    assert text_of(cut(data, places)) == LINES


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf_32_is_read_by_its_mark(encoding: str) -> None:
    """Nobody should send it, and nobody who does needs to know."""
    assert text_of([("\ufeff" + LINES).encode(encoding)]) == LINES


@given(cuts)
def test_what_is_not_utf_8_is_ansi(places: Sequence[int]) -> None:
    """After ASCII alone, a byte that UTF-8 does not have begins Windows' own encoding."""
    assert text_of(cut(ANSI.encode("cp1252"), places)) == ANSI


@pytest.mark.parametrize("size", [1, 100, 8191, 8192, 70_000])
def test_ansi_far_down_and_at_the_very_end(size: int) -> None:
    """The first such byte may be the last of a long file."""
    assert text_of([b"x" * size + b"\xe9"]) == "x" * size + "é"


@pytest.mark.parametrize(
    ("data", "before", "line"),
    [
        ("Model\r\né\r\n".encode() + b"\r\n\xe9\r\n", "Model\r\né\r\n\r\n", 4),
        (b"Model\r\n\xe9\r\n\x81", "Model\r\né\r\n", 3),
        (b"\xef\xbb\xbfModel\n\xe9\n", "Model\n", 2),
        ("\ufeffModel\rA".encode("utf-16-le") + b"\x00\xd8", "Model\rA", 2),
        ("\ufeffModel\nA".encode("utf-16-le") + b"B", "Model\nA", 2),
        (b"Model\n1\n2\x003\n", "Model\n1\n2", 3),
        ("\ufeffModel\n\0".encode("utf-16-be"), "Model\n", 2),
        ("é\n".encode() + b"\xc3", "é\n", 2),
    ],
    ids=["mixed", "undefined", "marked", "half-a-pair", "half-a-unit", "zero", "wide-zero", "cut-off"],
)
@given(places=cuts)
def test_what_no_encoding_explains_is_refused_with_its_line(
    data: bytes, before: str, line: int, places: Sequence[int]
) -> None:
    """All before the fault is read, and no byte is replaced by guesswork."""
    assert fault_of(cut(data, places)) == ("unreadable-text", before, line)


def test_bytes_in_utf_16_appended_by_a_copy() -> None:
    """DOS puts a one-byte Ctrl-Z even behind two-byte text."""
    assert text_of(["\ufeffModel\r\n".encode("utf-16-le") + b"\x1a"]) == "Model\r\n"


def test_mark_in_the_middle() -> None:
    """Joined files have a second mark at the start of a line; anywhere else it is no part of what anybody means."""
    manifest = read("\ufeffSerial,Product ID\nS1,1\n\ufeffS2,2\nS\ufeff3,3\n", bad_rows_allowed=50)
    assert (found(manifest), [d.serial_number for d in devices(manifest)]) == ([(4, "invalid-value")], ["S1", "S2"])


def test_gzip_within_gzip_is_refused() -> None:
    """A second layer is a mistake, or meant to grow."""
    assert "gzip archive within" in said(read(gzip.compress(gzip.compress(b"Product ID\n1\n"))))


def zipped(*names: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            content = "application/vnd.oasis.opendocument.spreadsheet" if name == "mimetype" else "<x/>" * 50
            archive.writestr(name, content, zipfile.ZIP_STORED if name == "mimetype" else None)
    return data.getvalue()


def tarred() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("devices.csv"))
    return data.getvalue()


@pytest.mark.parametrize("packed", [False, True], ids=["", "gzip"])
@pytest.mark.parametrize(
    ("data", "name"),
    [
        (zipped("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"), "an Excel workbook. Save it as CSV"),
        (zipped("xl/workbook.xml", "[Content_Types].xml"), "an Excel workbook"),
        (zipped("_rels/.rels", "xl/workbook.xml"), "an Excel workbook"),
        (zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"), "a Word document"),
        (zipped("mimetype", "content.xml"), "an OpenDocument spreadsheet"),
        (zipped("devices.csv"), "a zip archive. Unpack it"),
        (tarred(), "a tar archive"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Excel workbook of the old kind"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"{\\rtf1\\ansi", "an RTF document"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (b"\xff\xd8\xff\xe0", "a picture"),
        (b"GIF89a", "a picture"),
        (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
        (b"Rar!\x1a\x07\x01\x00", "a RAR archive"),
        (b"MSCF\x00\x00\x00\x00", "a cabinet archive"),
        (b"\xfd7zXZ\x00", "an XZ archive"),
    ],
)
def test_other_things_are_named_as_what_they_are(data: bytes, name: str, packed: bool) -> None:
    """What is no text is refused as what it is, with what to do."""
    manifest = read(gzip.compress(data) if packed else data)
    assert (reason(manifest), name in said(manifest)) == ("not-a-manifest", True)
    assert "drop it again" in said(manifest)


@pytest.mark.parametrize("members", [1, 2, 50])
@given(places=cuts)
@example(places=range(300))
def test_gzip_is_read_as_what_is_in_it(members: int, places: Sequence[int]) -> None:
    """One member or several, cut anywhere; what an archive is padded with does not count."""
    data = f"{HEADER}\n,1,,,\n,2,,,\n".encode()
    parts = [data[i * len(data) // members : (i + 1) * len(data) // members] for i in range(members)]
    packed = b"".join(map(gzip.compress, parts)) + bytes(20)
    manifest = read(cut(packed, places))
    assert [(v.row, v.device) for v in manifest.verdicts()] == [(n, Device(product_key=str(n - 1))) for n in (2, 3)]


@pytest.mark.parametrize("kept", [3, 20, -8, -1])
def test_gzip_that_breaks_off_sends_nothing(kept: int) -> None:
    """Devices may be missing, even where all that is there can be read."""
    manifest = read(gzip.compress(b"Product ID\n1\n2\n")[:kept])
    assert (reason(manifest), "breaks off" in said(manifest)) == ("unreadable-text", True)
    assert devices(manifest) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:15] + b"\xff\xff" + d[17:],
        lambda d: d[:-5] + b"?" + d[-4:],
        lambda d: d + b"more",
        lambda d: d + d[2:],
    ],
    ids=["content", "checksum", "text-behind", "header-of-second"],
)
@given(places=cuts)
def test_damaged_gzip_sends_nothing(damage: Callable[[bytes], bytes], places: Sequence[int]) -> None:
    """A wrong byte inside, or anything but zeros behind the end; what was read before it does not hang on the cuts."""
    damaged = damage(gzip.compress(b"Product ID\n1\n2\n" + b",\n" * 4_000))
    manifest = read(cut(damaged, places))
    assert (reason(manifest), "damaged" in said(manifest)) == ("unreadable-text", True)
    assert list(manifest.verdicts()) == list(read(damaged).verdicts())
    assert devices(manifest) == []


def test_limit_counts_what_is_inside() -> None:
    """The limit of a manifest's bytes holds for what a small archive unpacks to."""
    data = b"Product ID\n" + b"".join(b"%013d\n" % n for n in range(1, 1000))
    assert reason(read(gzip.compress(data), max_bytes=len(data))) is None
    assert reason(read(gzip.compress(data), max_bytes=len(data) - 1)) == "manifest-too-large"


def test_thousandfold_archive_is_refused_before_it_is_unpacked() -> None:
    """What shrinks to a two-hundredth is no device list, unless it is small."""
    bomb = zlib.compressobj(9, wbits=31)
    packed = b"".join(bomb.compress(bytes(1 << 20).replace(b"\0", b" ")) for _ in range(64)) + bomb.flush()
    sizes: list[int] = []
    with pytest.raises(Refused, match="times its size"):
        sizes.extend(map(len, unpacked([packed], 1 << 29)))
    assert sum(sizes) <= 1 << 24
    assert devices(read(gzip.compress(b"Product ID\n1\n" + b",,,,\n" * 1_000_000))) == [Device(product_key="1")]


def test_members_without_end_are_refused() -> None:
    """Each costs more than it holds."""
    assert "members" in said(read([gzip.compress(b"") * (MOST_MEMBERS + 1)]))


def test_digest_is_of_the_file_as_it_was_dropped() -> None:
    """The supplier's checksum is of the archive, not of what is in it."""
    packed = gzip.compress(b"Product ID\n1\n")
    assert read(packed).sha256 == read([packed[:5], packed[5:]]).sha256 != read(b"Product ID\n1\n").sha256
