"""Every format in every encoding, gzipped or not, however cut; and what a hostile file may cost."""

import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, pairwise, repeat
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.manifest import Device
from shared.planning import plan_manifest
from tests.unit.builders import HASH, HEADER, NAMES, csv_of, device_lists, devices, read, reason, upload

API = ("SerialNumber", "ProductKey", "HardwareHash", "OemManufacturerName", "ModelName")
GRAPH = ("serialNumber", "productKey", "hardwareIdentifier", "manufacturer", "model")
OA3 = ("SerialNumber", "ProductKeyID", "HardwareHash", "SmbiosSystemManufacturer", "SmbiosSystemProductName")


def members(device: Device, names: tuple[str, ...]) -> dict[str, str]:
    return {name: getattr(device, field) for name, field in zip(names, NAMES, strict=True)}


def xml_of(expected: Iterable[Device]) -> str:
    keys = ("".join(f"<{n}>{escape(v)}</{n}>" for n, v in members(d, OA3).items()) for d in expected)
    return f"<Keys>{''.join(f'<Key>{key}</Key>' for key in keys)}</Keys>"


WRITERS: dict[str, Callable[[list[Device]], str]] = {
    "csv": lambda ds: csv_of(ds, list(zip(NAMES, HEADER.split(","), strict=True))),
    "request": lambda ds: json.dumps({"BatchId": "Standard", "Devices": [members(d, API) for d in ds]}),
    "array": lambda ds: json.dumps([members(d, API) for d in ds], ensure_ascii=False, indent=1),
    "graph": lambda ds: json.dumps({"value": [members(d, GRAPH) for d in ds]}, ensure_ascii=False),
    "lines": lambda ds: "\n".join(json.dumps(members(d, GRAPH), ensure_ascii=False) for d in ds),
    "xml": xml_of,
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
NOT_UTF_8 = st.text(st.characters(min_codepoint=0xC0, max_codepoint=0xFF), min_size=1)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@given(
    expected=device_lists(),
    packed=st.booleans(),
    places=st.lists(st.integers(0, 4_000), max_size=8) | st.just(range(4_000)),
)
def test_written_devices_read_back(
    write: Callable[[list[Device]], str], encoding: str, expected: list[Device], packed: bool, places: Iterable[int]
) -> None:
    """Any devices are read value for value, whatever they were written as and wherever the network cut that."""
    data = write(expected).encode(encoding)
    data = gzip.compress(data) if packed else data
    edges = [0, *sorted(min(c, len(data)) for c in places), len(data)]
    assert devices(read([data[a:b] for a, b in pairwise(edges)])) == expected


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@given(models=st.lists(NOT_UTF_8, min_size=1, max_size=4))
def test_ansi_reads_back(write: Callable[[list[Device]], str], models: list[str]) -> None:
    """So it is with what Windows programs write where they were not told otherwise."""
    expected = [Device(product_key=f"{n:013d}", model=model) for n, model in enumerate(models, 1)]
    assert devices(read(write(expected).encode("cp1252"))) == expected


VALID = [write([Device("S1", "1", HASH, "M", "É"), Device("S2", "2", "", "M", "N")]) for write in WRITERS.values()]


@given(
    st.sampled_from([text.encode(encoding) for text in VALID for encoding in ENCODINGS]),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 3), st.binary(max_size=4)), min_size=1, max_size=4),
    st.booleans(),
)
@example(VALID[3].encode(), [(1, 1, b"")], False)
def test_damaged_files_end_in_an_answer(data: bytes, edits: list[tuple[int, int, bytes]], packed: bool) -> None:
    """Bytes that were lost, added or changed end in devices or findings, and in a plan that can be written down."""
    damaged = gzip.compress(data, 1) if packed else data
    for at, removed, added in edits:
        damaged = damaged[:at] + added + damaged[at + removed :]
    manifest = read(damaged)
    with plan_manifest(upload(), manifest, 500) as draft:
        assert draft.plan.devices or draft.plan.findings
        assert draft.plan.model_dump_json().encode()


PIECE = 1 << 16


def endless(start: bytes, unit: bytes, size: int = 12 << 20) -> Iterator[bytes]:
    piece = unit * (PIECE // len(unit))
    return chain([start], repeat(piece, size // len(piece)))


def packed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    archive = zlib.compressobj(9, wbits=31)
    yield from filter(None, map(archive.compress, pieces))
    yield archive.flush()


def names() -> Iterator[bytes]:
    return (b"".join(b"<a%d/>" % n for n in range(k, k + 5_000)) for k in range(0, 400_000, 5_000))


HOSTILE: dict[str, Callable[[], Iterable[bytes]]] = {
    "json-string": lambda: endless(b'[{"ProductKey": "', b"x"),
    "json-escapes": lambda: endless(b'[{"ProductKey": "', b"\\ud800"),
    "json-number": lambda: endless(b'[{"ProductKey": ', b"9"),
    "json-white": lambda: endless(b"[", b" "),
    "json-arrays": lambda: endless(b"", b"["),
    "json-objects": lambda: endless(b'[{"Policies":', b'{"a":'),
    "json-element": lambda: endless(b'[{"Policies":[', b"[],"),
    "json-member-names": lambda: endless(b"{", b'"serial": "1", '),
    "json-twice": lambda: endless(b'[{"a":1', b',"serial":1'),
    "json-one-line": lambda: endless(b'{"ProductKey": "1"}\n{"ProductKey": "', b"x"),
    "json-blank-lines": lambda: endless(b'{"ProductKey": "1"}\n', b" " * 63 + b"\n"),
    "xml-attribute": lambda: endless(b'<Key a="', b">"),
    "xml-name": lambda: endless(b"<", b"K"),
    "xml-comment": lambda: endless(b"<Key><!--", b">"),
    "xml-instruction": lambda: endless(b"<Key><?x ", b">"),
    "xml-value": lambda: endless(b"<Key><ProductKeyID>", b"1"),
    "xml-value-in-pieces": lambda: endless(b"<Key><ProductKeyID>", b"1<!---->"),
    "xml-depth": lambda: endless(b"<Key>", b"<a>"),
    "xml-members": lambda: endless(b"<Key>", b"<Colour/>"),
    "xml-names": lambda: chain([b"<Keys>"], names()),
    "xml-white": lambda: endless(b"<Keys>", b" "),
    "csv-line": lambda: endless(b"Product ID\n", b"x"),
    "csv-blank-lines": lambda: endless(b"Product ID\n1\n", b"," * 7 + b" " * 56 + b"\n"),
    "csv-record": lambda: endless(b"Product ID\n", b'"' + b"\n" * 60 + b'",'),
    "wide": lambda: endless("\ufeffProduct ID\n".encode("utf-16-le"), "\U0001f600".encode("utf-16-le")),
    "gzip-bomb": lambda: packed(endless(b"Product ID\n1\n", b"," * 1023 + b"\n", 64 << 20)),
    "gzip-json": lambda: packed(endless(b'[{"ProductKey": "', b"0123456789abcdef")),
    "gzip-empty-members": lambda: repeat(gzip.compress(b"") * 3_000, 200),
    "zero-bytes": lambda: endless(b"Product ID\n", b"\0"),
    "binary": lambda: endless(b"\xde\xad", bytes(range(128, 256))),
}


@pytest.mark.parametrize("pieces", HOSTILE.values(), ids=HOSTILE)
def test_hostile_file_costs_bounded_memory_and_time(pieces: Callable[[], Iterable[bytes]]) -> None:
    """Whatever goes on without end gets an answer, at the price of a small file."""
    tracemalloc.start()
    began = time.process_time()
    manifest = read(pieces())
    taken, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert manifest.findings or devices(manifest)
    assert (peak < 6 << 20, taken < 20) == (True, True), (peak, taken, reason(manifest))
