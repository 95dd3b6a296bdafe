"""What the documents say is what the code does."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from local.triggers import HostSettings
from shared.intake import BUDGET
from shared.manifest import Code
from shared.partner_center import EXCHANGE_PROBLEMS
from shared.settings import Settings
from tests.integration.conftest import Corner

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_reader_in_the_readme_reads_a_result(new_corner: Callable[..., Corner]) -> None:
    """A consumer copies it, and it prints the tracking URI."""
    corner = new_corner(RESULT_QUEUE="device-batch-results")
    corner.deliver("a.json", b'[{"ProductKey": "00329-00000-0003-AA606"}]')
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    reader = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"STORAGE": corner.cloud.azurite.connection_string},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert f"Standard {corner.cloud.partner_center.url}/v1{corner.posts[0].location}" in reader.stdout


@pytest.mark.parametrize("name", [str(f.alias) for f in Settings.model_fields.values() if f.alias])
def test_each_setting_is_explained(name: str) -> None:
    """In the README's table and in the sample."""
    sample = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]

    assert f"`{name}`" in README
    assert name in sample or name == "ManifestStorage"  # the sample shows the identity instead


@pytest.mark.parametrize("code", list(Code))
def test_suppliers_are_told_what_each_finding_wants(code: Code) -> None:
    """Their scripts read the codes, and they read the page."""
    assert f"`{code}`" in (ROOT / "docs/suppliers.md").read_text()


def test_operators_are_told_what_each_problem_wants() -> None:
    """Every problem that the code can raise stands in the table, and no other."""
    raised = set(EXCHANGE_PROBLEMS)
    for path in (ROOT / "shared").rglob("*.py"):
        for pattern in (r'OperatorsFault\(\s*"([a-z-]+)"', r'problem = "([a-z-]+)"', r'_look_at\([^,]+, "([a-z-]+)"'):
            raised |= set(re.findall(pattern, path.read_text()))
    table = (ROOT / "docs/operators.md").read_text().split("| `problem` | do |")[1].split("\n\n")[0]

    assert set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)) == raised


def test_the_time_budget_is_well_inside_the_function_s() -> None:
    """What is under way when it is over may still take its time-outs and repeats."""
    timeout = HostSettings.read(ROOT / "host.json").function_timeout

    assert timeout is not None
    assert timeout >= BUDGET * 3


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_every_link_leads_somewhere(page: str) -> None:
    """Also those between the pages."""
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("made", (ROOT / ".gitignore").read_text().split())
def test_what_is_made_here_is_not_published(made: str) -> None:
    """Caches are larger than the app, and logs are nobody else's."""
    left_out = (ROOT / ".funcignore").read_text().split()

    within = {"*.pyc": "__pycache__", "node_modules/": "local"}
    assert any(fnmatch(within.get(made, made).strip("/"), pattern) for pattern in left_out)
