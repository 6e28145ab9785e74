"""`convd shadow`: the report from which a person decides."""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from convd.client.client import Client as Asker
from convd.client.comparison import Comparison
from convd.client.connection import Connection
from convd.commands.main import main
from convd.commands.shadow_report import as_html, as_json, as_markdown, interval
from testbed.variants import write_confused
from tests.digits import Digits
from tests.support import Client, running_server, wait_until

UNLIKE = ("3", "8")
PICTURES = 20


@pytest.fixture(scope="module")
def compared(
    published: Path, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A server that has compared each of 20 digits; version 2 takes 3 for 8, and 8 for 3."""
    model = tmp_path_factory.mktemp("compared") / "digits"
    model.mkdir()
    shutil.copytree(published, model / "1")
    write_confused(published, model / "2", UNLIKE)
    (model / "config.yaml").write_text(
        "labels: {stable: 1, canary: 2}\nshadow: {share: 1, pictures: thumbnail}\n"
    )
    with running_server(model.parent) as client:
        address = Connection(f"127.0.0.1:{client.grpc_port}")
        with Asker(address) as asker:
            wait_until(lambda: asker.comparisons())
            for index in range(PICTURES):
                client.classify(
                    digits.encoded(index), metadata=(("x-request-id", f"request-{index}"),)
                )
            wait_until(lambda: asker.comparisons()[0].compared == PICTURES)
        yield client


@pytest.fixture
def found(compared: Client) -> Comparison:
    with Asker(f"127.0.0.1:{compared.grpc_port}") as asker:
        (comparison,) = asker.comparisons("digits")
    return comparison


def run(compared: Client, *arguments: object) -> Result:
    server = ("--server", f"127.0.0.1:{compared.grpc_port}")
    return CliRunner().invoke(main, ["shadow", *map(str, arguments), *server])


class Page(HTMLParser):
    """What is on a page, by its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_a_report_names_what_differs(compared: Client, digits: Digits) -> None:
    result = run(compared, "--model", "digits")
    assert result.exit_code == 0, result.output
    assert "20 pictures were compared" in result.stdout
    assert "| same prediction (top-1) | 80.00% | 58.40% to 91.93% |" in result.stdout
    assert "| `3` | `8` | 2 |" in result.stdout
    for index in range(PICTURES):
        name = hashlib.sha256(digits.encoded(index)).hexdigest()
        line = next((one for one in result.stdout.splitlines() if name in one), "")
        if index % 10 in (3, 8):
            assert f"request `request-{index}`" in line
            assert line.index(f"`{index % 10}`") < line.index(f"`{11 - index % 10}`")


def test_files_for_people_and_for_programs(compared: Client, tmp_path: Path) -> None:
    for name in ("report.md", "report.html", "report.json"):
        result = run(compared, "--output", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "20 pictures compared, 16 alike" in result.stdout
    (document,) = json.loads((tmp_path / "report.json").read_text())["comparisons"]
    assert (document["model"], document["live"], document["candidate"]) == ("digits", 1, 2)
    assert document["images"]["compared"] == PICTURES
    page = Page((tmp_path / "report.html").read_text())
    assert len(page.of("img")) == len(document["most_different"]) == 16
    assert all(str(one["src"]).startswith("data:image/png;base64,") for one in page.of("img"))
    assert "base64" not in (tmp_path / "report.md").read_text()
    assert run(compared, "--output", tmp_path / "report.pdf").exit_code == 2


def test_a_server_that_compares_nothing_says_what_to_do(client: Client) -> None:
    result = run(client)
    assert result.exit_code == 1
    assert "config.yaml" in result.output


def test_what_others_have_written_stays_text(found: Comparison) -> None:
    hostile = "`|<script>alert(1)</script>![x](http://a/b)\n# big\x1b[31m"
    image = dataclasses.replace(
        found.most_different[0], live=((hostile, 0.5),), request_id=hostile,
        media_type="text/html", data=b"<script>",
    )  # fmt: skip
    altered = dataclasses.replace(
        found, model=hostile, problem=hostile, live_only_labels=(hostile,), most_different=(image,),
        changes=(dataclasses.replace(found.changes[0], live=hostile),),
    )  # fmt: skip
    page = Page(as_html([altered]))
    assert not page.of("script")
    assert not page.of("img")
    assert not page.of("a")
    assert page.text.count("<script>alert(1)</script>") == 6
    assert "\x1b" not in as_markdown([altered])
    assert len(page.of("h1")) == 1
    widths = {line.replace("\\|", "").count("|") for line in as_markdown([altered]).splitlines()}
    assert widths <= {0, 1, 4, 5}
    assert json.loads(as_json([altered]))["comparisons"][0]["model"] == hostile


def test_a_comparison_of_nothing_can_be_written(found: Comparison) -> None:
    nothing = dataclasses.replace(found, images=dict.fromkeys(found.images, 0), problem="paused")
    for text in (as_markdown([nothing]), as_html([nothing])):
        assert "0 pictures were compared" in text
        assert "paused" in text


def test_the_interval_is_that_of_wilson() -> None:
    # By statsmodels.stats.proportion.proportion_confint(..., method="wilson").
    assert interval(16, 20) == pytest.approx((0.5840, 0.9193), abs=1e-4)
    assert interval(20, 20) == pytest.approx((0.8389, 1.0), abs=1e-4)
    assert interval(0, 0) == (0, 1)
