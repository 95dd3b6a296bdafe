"""What a supplier is told at home, before the drop."""

import ast
import json
import os
import pty
import re
import runpy
import shutil
import subprocess
import sys
import time
import zipapp
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shared.reports import report_json
from tests.unit.builders import CUSTOMER, HASH, NOW, draft, json_of, keys
from tools.validate.command import main

ROOT = Path(__file__).parents[2]
OTHER = "47021739-3426-40bf-9601-61b4b6d7c793"
ALL_GOOD, SOME_BAD, ALL_BAD = keys(1, 2), keys(0, *range(1, 10)), keys(0)

type Drop = Callable[[str | bytes], str]
type Tell = Callable[..., str]
type Reports = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    """A file of one's own; its name."""

    def drop(data: str | bytes) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return str(path)

    return drop


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tell:
    """What the command prints on a wide page; its exit code is held to `code`."""
    monkeypatch.setenv("COLUMNS", "120")

    def tell(*arguments: str, code: int = 0) -> str:
        assert main(arguments, os.environ) == code
        return capsys.readouterr().out

    return tell


@pytest.fixture
def reports(tell: Tell) -> Reports:
    return lambda *arguments, **more: [json.loads(t) for t in tell("--format=json", *arguments, **more).splitlines()]


@pytest.mark.parametrize(
    ("data", "strictly"), [(ALL_GOOD, 0), (keys(1, 1), 0), (SOME_BAD, 1), (ALL_BAD, 1), (b"%PDF-1.7", 1)]
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_exit_code_tells_whether_it_would_be_accepted(
    drop: Drop, tell: Tell, data: str | bytes, strictly: int, form: str
) -> None:
    """Bad rows alone do not fail it, unless it is strict; warnings never do."""
    rejected = data in (ALL_BAD, b"%PDF-1.7")
    assert tell(name := drop(data), f"--format={form}", code=int(rejected))
    assert tell(name, f"--format={form}", "--strict", code=strictly)


def test_what_cannot_be_read_is_named_and_the_others_are_read(
    drop: Drop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No such file, and a folder: exit code 2, whatever became of the other files."""
    names = [str(tmp_path / "gone.csv"), str(tmp_path), drop(ALL_BAD), drop(ALL_GOOD)]
    assert main(names, os.environ) == 2
    said = capsys.readouterr()
    assert [line.split(" cannot be read: ")[0] for line in said.err.splitlines()] == names[:2]
    assert re.findall(r": (accepted|rejected); ", said.out) == ["rejected", "accepted"]


@pytest.mark.parametrize("arguments", [[], ["--customer", "contoso", "a.csv"], ["--format", "xml", "a.csv"]])
def test_wrong_arguments_could_not_run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The usage says what is wrong with them."""
    with pytest.raises(SystemExit) as ended:
        main(arguments, os.environ)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_page_says_what_a_person_wants_to_know(drop: Drop, tell: Tell) -> None:
    """Verdict, rows, devices and bad rows; each finding; how often each code; each batch with its requests."""
    rows = "".join(f"{n:013d},{'Kiosk' if n <= 501 else ''},\n" for n in range(1, 600))
    name = drop(f"Product ID,Group Tag,Order\n{rows},Kiosk,7\n0000000000001,Kiosk,\n")
    lines = [" ".join(line.split()) for line in tell(name).splitlines()]
    assert lines[0] == f"{name}: accepted without its bad rows; 601 rows, 599 devices, 1 bad row"
    assert "1 Order ignored-column The column “Order” was not used." in lines
    assert "602 duplicate-device The same device stands in row 2; this row was left out." in lines
    assert "In all: 1 × ignored-column, 1 × unidentified-device, 1 × duplicate-device" in lines
    assert "Kiosk 501 2" in lines
    assert "(the customer’s default) 98 1" in lines


def test_page_of_a_rejected_file_says_why_and_names_no_batch(drop: Drop, tell: Tell) -> None:
    """What is said of the file as a whole comes first, and once."""
    said = tell(drop(b"PK\x03\x04"), code=1)
    assert re.search(r"rejected; 0 rows, 0 devices, 0 bad rows\n  not-a-manifest: The file is a zip archive", said)
    assert said.count("zip archive") == 1
    assert "requests" not in said
    assert "not-a-manifest in row 2: " in tell(drop(f"Product ID\n{'1' * 200_000}\n"), code=1)


def test_page_shows_some_dozens_of_findings_and_how_many_more(drop: Drop, tell: Tell) -> None:
    """Ten thousand of them would help nobody."""
    said = tell(drop(keys(*[0] * 1_200)), code=1)
    assert 24 <= len(re.findall(r"^ +\d+ +unidentified-device ", said, re.MULTILINE)) <= 60
    (more,) = re.findall(r"… and ([\d,]+) more", said)
    assert more == "1,160"
    assert "1,200 × unidentified-device" in said


@pytest.mark.parametrize("width", [60, 80, 200])
def test_lines_fit_the_terminal(drop: Drop, tell: Tell, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Long messages wrap, and lose nothing."""
    monkeypatch.setenv("COLUMNS", str(width))
    name = drop(f"Device Serial Number,{'long ' * 30}\nS,x\n")
    said = tell(name, code=1).replace(name, "list.csv")
    assert max(map(len, said.splitlines())) <= width
    assert said.count("\n") > (12 if width < 100 else 8)
    assert "Add Manufacturer name and Device model, or one of the other two." in " ".join(said.split())


def test_documented_page_is_what_is_printed(tell: Tell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that suppliers read in their document."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    slates = "".join(
        f"PF3ABC0{n},Contoso Ltd,{model}\n" for n, model in enumerate(["Slate 7,Kiosk"] * 2 + ["Slate 7,"])
    )
    Path("list.csv").write_text(
        f"Serial,Manufacturer,Model,Group Tag\n{slates}PF3ABC04,,,\nPF3ABC01,Contoso Ltd,Slate 7,Kiosk\n"
    )
    documented = (ROOT / "docs/suppliers.md").read_text().partition("$ python validate.pyz list.csv\n")[2]
    assert tell("list.csv").strip() == documented.partition("```")[0].strip()


def test_without_a_batch_the_customers_default_is_assumed_and_said(drop: Drop, tell: Tell, reports: Reports) -> None:
    """Nobody knows it here: the page says that it is the partner's to set up, and JSON has null."""
    name = drop(ALL_GOOD)
    assert "partner set up" in tell(name)
    (report,) = reports(name)
    assert report["batches"] == [{"batchId": None, "devices": 2, "locations": []}]


@pytest.mark.parametrize(("batch", "reason"), [("Kiosk", None), (" ", "missing-batch-id"), ("a/b", "invalid-batch-id")])
def test_batch_is_for_rows_that_name_none(drop: Drop, reports: Reports, batch: str, reason: str | None) -> None:
    """As a folder batch=TAG on the path would be."""
    (report,) = reports("--batch", batch, drop(ALL_GOOD), code=int(bool(reason)))
    assert report["batches"] == ([] if reason else [{"batchId": batch, "devices": 2, "locations": []}])
    assert report.get("reason", {}).get("code") == reason


@pytest.mark.parametrize(
    ("claimed", "customer", "agrees"),
    [
        (CUSTOMER.upper(), CUSTOMER, True),
        (OTHER, CUSTOMER, False),
        (OTHER, None, True),
        ("Contoso Ltd", None, False),
    ],
)
@pytest.mark.parametrize("form", ["document", "column"])
def test_file_is_held_to_the_customer(
    drop: Drop,
    reports: Reports,
    claimed: str,
    customer: str | None,
    agrees: bool,
    form: str,
) -> None:
    """A file that names another customer than the one given is wrong; where none is given, any id will do."""
    column = f"Product ID,Tenant ID\n1,{claimed}\n"
    name = drop(column if form == "column" else json_of([{"ProductKey": "1"}], CustomerId=claimed))
    (report,) = reports(name, *(["--customer", customer] if customer else []), code=int(not agrees))
    assert report.get("reason", {}).get("code") == (None if agrees else "customer-mismatch")
    assert report["customerId"] == customer


@pytest.mark.parametrize("data", [ALL_GOOD, SOME_BAD, ALL_BAD, "", json_of([{"HardwareHash": HASH}], BatchId="Lab")])
def test_json_is_what_the_report_of_a_drop_would_be(drop: Drop, reports: Reports, data: str) -> None:
    """Member for member, but for what only a drop can tell."""
    name = drop(data)
    with draft(data) as made:
        dropped = json.loads(report_json(made.plan, "received", NOW))
    (report,) = reports(name, "--batch=Standard", "--customer", CUSTOMER, code=int(dropped["verdict"] == "rejected"))
    told = {"name": name, "sha256": dropped["manifest"]["sha256"]}
    assert report == dropped | {
        "manifest": dict.fromkeys(dropped["manifest"]) | told,
        "updated": None,
        "state": None,
    }


def test_json_has_a_line_for_each_file(drop: Drop, reports: Reports) -> None:
    """In the order in which they were named."""
    names = [drop(ALL_GOOD), drop(ALL_BAD)]
    assert [r["manifest"]["name"] for r in reports(*names, code=1)] == names


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "tools.validate", *arguments]


class Screen:
    """A terminal, and what it shows."""

    def __init__(self) -> None:
        self._ours, its = pty.openpty()
        self.file = os.fdopen(its, "wb", buffering=0)

    def shown(self) -> str:
        """All that was written, once nobody writes any more."""
        self.file.write(b"|")
        text = b""
        while not text.endswith(b"|"):
            text += os.read(self._ours, 4096)
        return text.decode().removesuffix("|")

    def close(self) -> None:
        self.file.close()
        os.close(self._ours)


@pytest.fixture
def screen() -> Iterator[Screen]:
    screen = Screen()
    yield screen
    screen.close()


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals(
    drop: Drop, tell: Tell, screen: Screen, environment: dict[str, str], coloured: bool
) -> None:
    """There it is used, unless it is not wanted; elsewhere escapes would only be in the way."""
    name = drop(ALL_BAD)
    bare = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    subprocess.run(command(name), cwd=ROOT, stdout=screen.file, env=bare | environment, timeout=60)
    assert ("\x1b[31mrejected\x1b[0m" in screen.shown()) is coloured
    assert "\x1b" not in tell(name, code=1)


@pytest.mark.parametrize(("kilobytes", "seconds"), [(0, 0), (1024, 1.2)])
def test_progress_is_told_of_what_takes_more_than_a_second(screen: Screen, kilobytes: int, seconds: float) -> None:
    """On a terminal; it is gone when the page comes. The file comes by standard input here, slowly."""
    blank = (b" " * 1023 + b"\n") * kilobytes
    with subprocess.Popen(
        command("-"), cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=screen.file
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"Product ID\n" + blank)
        process.stdin.flush()
        time.sleep(seconds)
        process.stdin.write(b"1\n" + blank)
        process.stdin.close()
        assert b"1 row, 1 device" in process.stdout.read()
    *told, last = screen.shown().split("\r")
    assert bool(told) is (seconds > 0) is ("2 MB read" in "".join(told))
    assert last == ""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """What a supplier has: two folders."""
    home = tmp_path / "home"
    for folder in ("shared/manifest", "tools/validate"):
        shutil.copytree(ROOT / folder, home / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return home


@pytest.mark.parametrize("form", ["folder", "archive"])
def test_two_folders_are_enough(copied: Path, drop: Drop, form: str) -> None:
    """Nothing else of ours and nothing else that was installed is there: neither Azure's packages nor any other."""
    run = ["-m", "tools.validate"]
    if form == "archive":
        zipapp.create_archive(copied, archive := copied.parent / "validate.pyz", main="tools.validate.__main__:run")
        run = [str(archive)]
    names = [drop(ALL_GOOD.encode("utf-16")), drop(json_of([{"ProductKey": "3"}, {}]))]
    done = subprocess.run(
        [sys.executable, "-E", "-S", *run, "--format=json", *names],
        cwd=copied,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["accepted", "rejected"]
    assert done.returncode == 1


def test_older_python_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suppliers have what they have: it says what is needed, and not that our syntax is wrong."""
    ast.parse((ROOT / "tools/validate/__main__.py").read_text(), feature_version=(3, 7))
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit, match=r"Python 3\.13 or newer is needed; this is 3\.9"):
        runpy.run_module("tools.validate", run_name="__main__")
