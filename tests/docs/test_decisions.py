"""Decision records have one form, and the index lists all of them."""

import re
from pathlib import Path

import pytest

from tests.support import ROOT

FOLDER = ROOT / "docs" / "decisions"
RECORDS = sorted(FOLDER.glob("0*.md"))
SECTIONS = ["Context", "Decision", "Evidence", "Consequences"]
HEADING = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\n"
    r"- Status: (?P<status>proposed|accepted|superseded)\b(?P<note>.*)\n"
    r"- Date: (?P<date>\d{4}-\d\d-\d\d)\n\n## Context\n"
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_record_follows_the_template(record: Path) -> None:
    text = record.read_text()
    heading = HEADING.match(text)
    assert heading is not None, "number, title, status and date"
    assert int(heading["number"]) == int(record.name[:4])
    assert [s for s in re.findall(r"^## (.+)$", text, re.MULTILINE) if s in SECTIONS] == SECTIONS


def test_a_number_is_given_once() -> None:
    numbers = [record.name[:4] for record in RECORDS]
    assert len(set(numbers)) == len(numbers)


def test_the_index_lists_every_record_as_it_is() -> None:
    rows = re.findall(
        r"^\| \[(\d+)\]\((\S+)\) \| (.+) \| (\w+).* \| (\S+) \|$",
        (FOLDER / "README.md").read_text(),
        re.MULTILINE,
    )
    expected = []
    for record in RECORDS:
        heading = HEADING.match(record.read_text())
        assert heading is not None
        title, status, date = heading["title"], heading["status"], heading["date"]
        expected.append((heading["number"], record.name, title, status, date))
    assert rows == expected


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    # The template's own example.
    assert [link for link in missing if link != "file.md"] == []
