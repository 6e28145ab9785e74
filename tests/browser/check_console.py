"""The console in a real browser: headless Chromium against a real server under load.

Not part of the suite, since it needs Chromium: `make test-console` runs it. `make screenshots` lets
it renew those of the documents on the way.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    FilePayload,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)
from rich.console import Console

from convd.artifact.bundle import checksums
from convd.artifact.repository import ModelRepository
from convd.export.publication import publish
from convd.export.sources.checkpoint import network_from_checkpoint
from convd.models.data import load_dataset
from convd.models.settings import TrainingSettings
from convd.models.training import train
from convd.service.access.scopes import EVERYTHING
from testbed.principals import write_principals
from testbed.variants import write_confused
from tests.export.digits_of_both_kinds import make_workplace, pictures_of, publish_all
from tests.support import (
    Client,
    add_version,
    http_request,
    png,
    rewrite_manifest,
    running_server,
    wait_until,
)

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP: ViewportSize = {"width": 1200, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
SCREENSHOTS = os.environ.get("CONSOLE_SCREENSHOTS", "")
"""A folder for them; empty for none."""
LOAD_THREADS = 6
SHOWN_DIGIT = 7
COMPARED = 20
POLL_MILLISECONDS = 20_000

HELD_OUT = load_dataset("digits").held_out


def digit(index: int) -> bytes:
    return png(HELD_OUT.picture(index))


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeNet-5 that knows its digits, with a plot in its card, and a version that is damaged."""
    folder = tmp_path_factory.mktemp("console")
    settings = TrainingSettings(architecture="lenet", data="digits", epochs=12)
    train(settings, folder / "checkpoint", console=Console(quiet=True))
    trained = network_from_checkpoint(folder / "checkpoint")
    version = publish(trained, ModelRepository(folder / "repository"), "digits").path
    Image.new("RGB", (40, 30), "teal").save(version / "plot.png")
    card = version / "MODEL_CARD.md"
    card.write_text(f"{card.read_text()}\n![a plot](plot.png)\n\n<script>forged = 1</script>\n")
    manifest_files = ("manifest.json", "manifest.json.sha256")
    files = {key: value for key, value in checksums(version).items() if key not in manifest_files}
    rewrite_manifest(version, files=files)
    damaged = add_version(folder / "repository", "digits", version)
    (damaged / "model.onnx").write_bytes(b"damaged")
    return folder / "repository"


@pytest.fixture(scope="session")
def client(repository: Path) -> Iterator[Client]:
    with running_server(repository, poll_seconds=2.0) as client:
        yield client


@contextlib.contextmanager
def load(client: Client) -> Iterator[None]:
    """Classify digits from several threads until the block ends."""
    stop = threading.Event()
    images = [digit(index) for index in range(32)]

    def ask() -> None:
        turn = 0
        while not stop.wait(0.01):
            client.classify(images[turn % len(images)])
            turn += 1

    threads = [threading.Thread(target=ask) for _ in range(LOAD_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    # Chromium's own files land in a folder of the test's, and names lead nowhere.
    flags = [*FLAGS, "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
    home = str(tmp_path_factory.mktemp("home"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=flags, env={**os.environ, "HOME": home}
        )
        yield browser
        browser.close()


class Watch:
    """What a page asked for, and what it complained of."""

    def __init__(self, page: Page) -> None:
        self.urls: list[str] = []
        self.complaints: list[str] = []
        page.on("request", self._requested)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _requested(self, request: Request) -> None:
        self.urls.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        # Chromium notes every refused request by itself.
        if message.type in ("error", "warning") and "Failed to load" not in message.text:
            self.complaints.append(message.text)


@pytest.fixture
def page(browser: Browser, client: Client) -> Iterator[Page]:
    """The console, open; in the end it has asked nobody else and complained of nothing."""
    origin = f"http://127.0.0.1:{client.http_port}"
    page = browser.new_page(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    watch = Watch(page)
    page.goto(origin)
    expect(page.locator("#readiness")).to_have_text("ready")
    expect(page.locator("#models-table tbody tr")).to_have_count(2)
    yield page
    page.close()
    assert [url for url in watch.urls if not url.startswith((f"{origin}/", "data:", "blob:"))] == []
    assert watch.complaints == []


def broken_words(page: Page, selector: str) -> list[str]:
    """Words that the page breaks in two, but for checksums and paths in `code`."""
    words: list[str] = page.evaluate(
        """(selector) => {
          const place = document.querySelector(selector);
          const texts = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
          const broken = [];
          for (let node; (node = texts.nextNode()); ) {
            if (node.parentElement.closest("code")) continue;
            for (const word of node.data.matchAll(/\\p{L}+/gu)) {
              const range = document.createRange();
              range.setStart(node, word.index);
              range.setEnd(node, word.index + word[0].length);
              const tops = new Set([...range.getClientRects()].map((one) => Math.round(one.top)));
              if (tops.size > 1) broken.push(word[0]);
            }
          }
          return broken;
        }""",
        selector,
    )
    return words


def screenshot(page: Page, name: str) -> None:
    """Keep a small picture of the whole page, if somebody wants it."""
    if not SCREENSHOTS:
        return
    path = Path(SCREENSHOTS) / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=path, full_page=True, animations="disabled")
    with Image.open(path) as picture:
        # Of few colours, with rare ones kept: the lines of the charts are thin.
        colours = Image.Quantize.MAXCOVERAGE
        small = picture.convert("RGB").quantize(256, colours, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


def choose(page: Page, image: bytes, name: str = "digit.png") -> None:
    file: FilePayload = {"name": name, "mimeType": "application/octet-stream", "buffer": image}
    page.set_input_files("#trial-file", file)


def latest(page: Page, chart: str, series: str) -> float:
    """The number in a chart's legend; 0 where it is not there or idle."""
    item = page.locator(f"#chart-{chart} .legend li").filter(has_text=series)
    if item.count() == 0:
        return 0.0
    found = re.match(r"[\d.]+", item.locator("b").inner_text())
    return float(found[0]) if found else 0.0


def test_models_are_listed_with_state_proof_and_reason(page: Page) -> None:
    available, failed = page.locator("#models-table tbody tr").all()
    text = available.inner_text()
    assert "digits version 1" in text
    assert "available" in text
    assert re.search(r"9\d\.\d %\s+of 360 examples", text)
    assert "CPU" in text
    assert re.search(r"\d\.\de[-+]\d", text), "the golden difference"
    assert "digits version 2" in failed.inner_text()
    assert "does not match its checksum" in failed.inner_text()


def test_the_card_opens_with_its_plot_and_obeys_no_script(page: Page) -> None:
    page.get_by_role("button", name="Model card of digits version 1").click()
    dialog = page.get_by_role("dialog", name="digits, version 1")
    expect(dialog.get_by_role("heading", name="How it was verified")).to_be_visible()
    expect(dialog.get_by_alt_text("a plot")).to_have_js_property("naturalWidth", 40)
    for plot in dialog.locator("img").all():
        assert plot.evaluate("one => one.naturalWidth") > 0
    assert page.evaluate("typeof forged") == "undefined"
    expect(dialog).to_contain_text("<script>")
    page.get_by_role("button", name="Close the model card").click()
    expect(dialog).to_be_hidden()


def test_the_charts_move_under_load(page: Page, client: Client) -> None:
    lines = page.locator("#chart-rate path.line")
    with load(client):
        wait_until(lambda: page.locator("#chart-p99 path.line").count() == 5)
        wait_until(lambda: latest(page, "rate", "answered") > 10)
        before = lines.first.get_attribute("d")
        wait_until(lambda: lines.first.get_attribute("d") != before)
        assert latest(page, "batch", "rows") >= 1
        for stage in ("decode", "preprocess", "queue", "inference", "postprocess"):
            assert latest(page, "p50", stage) > 0
            assert latest(page, "p99", stage) > 0
        label = page.locator("#chart-rate svg").get_attribute("aria-label")
        assert re.fullmatch(r"Requests: answered [\d.]+/s, errors 0/s", label or "")
        # What the page computes is what the counters say.
        shown = latest(page, "rate", "answered")
        assert 0 < shown < 5000
        choose(page, digit(SHOWN_DIGIT))
        expect(page.locator("#trial-answer")).to_be_visible()
        # It is shown once enough answers have come to be compared with the baseline.
        expect(page.locator("#chart-drift")).to_be_visible(timeout=60_000)
        wait_until(lambda: page.locator("#chart-drift path.line").count() == 2)
        if SCREENSHOTS:
            page.wait_for_timeout(25_000)
        screenshot(page, "console-light")
        page.emulate_media(color_scheme="dark")
        screenshot(page, "console-dark")
        page.set_viewport_size(PHONE)
        page.wait_for_timeout(500)
        screenshot(page, "console-phone")
        page.set_viewport_size({"width": 360, "height": 740})
        assert broken_words(page, "body") == []
    # The window of ten seconds runs empty.
    wait_until(lambda: latest(page, "rate", "answered") < 1)
    expect(page.locator("#chart-p99 .legend")).to_contain_text("idle")


def test_the_rate_is_that_of_the_counters(page: Page, client: Client) -> None:
    path = "/metrics?name[]=convd_requests_total"

    def answered() -> float:
        text = http_request(client.http_port, "GET", path)[2].decode()
        values = re.findall(r'^convd_requests_total\{.*code="OK".*\} (\S+)$', text, re.MULTILINE)
        return sum(map(float, values))

    # At least one whole window without a request, then a known number within the next.
    wait_until(lambda: latest(page, "rate", "answered") == 0)
    before = answered()
    for index in range(100):
        client.classify(digit(index % 8))
    assert answered() == before + 100
    wait_until(lambda: latest(page, "rate", "answered") > 0)
    rates = [latest(page, "rate", "answered")]
    while rates[-1] > 0:
        page.wait_for_timeout(200)
        rates.append(latest(page, "rate", "answered"))
    # 100 requests over 10 seconds, or over the part of them that the window has grown to.
    assert max(rates) >= 100 / 12.5


def test_an_image_is_tried_and_shown_as_the_network_saw_it(page: Page, client: Client) -> None:
    image = digit(SHOWN_DIGIT)
    choose(page, image)
    summary = page.locator("#trial-summary")
    expect(summary).to_contain_text("with")
    expected = client.classify(image).results[0].classification.classes
    expect(summary.locator("strong")).to_have_text(expected[0].label)
    rows = page.locator("#trial-classes li")
    expect(rows).to_have_count(10)
    shares = []
    for row, one in zip(rows.all(), expected, strict=True):
        assert row.locator(".name").inner_text() == one.label
        shares.append(float(row.locator(".value").inner_text().strip("< %")))
        assert shares[-1] == pytest.approx(one.probability * 100, abs=0.06)
        width = row.locator(".fill").evaluate("bar => bar.getBoundingClientRect().width")
        track = row.locator(".track").evaluate("bar => bar.getBoundingClientRect().width")
        assert width / track == pytest.approx(one.probability, abs=0.02)
    assert sum(shares) == pytest.approx(100, abs=0.5)
    expect(page.locator("#trial-original")).to_have_js_property("naturalWidth", 8)
    expect(page.locator("#trial-input")).to_have_js_property("naturalWidth", 32)


def test_an_answer_is_explained(page: Page) -> None:
    """By keyboard; in the dark and on a phone it has room, too."""
    choose(page, digit(SHOWN_DIGIT))
    label = page.locator("#trial-summary strong").inner_text()
    button = page.get_by_role("button", name="Where is the evidence?")
    button.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#trial-why")).to_be_visible(timeout=30_000)
    expect(page.locator("#trial-overlay")).to_have_js_property("naturalWidth", 8)
    expect(page.locator("#trial-evidence")).to_have_text(f"Evidence for {label}, by occlusion")
    expect(page.get_by_alt_text(re.compile(f"Where the evidence for {label} lies"))).to_be_visible()
    expect(page.locator("#trial-explaining")).to_contain_text("Found in")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    page.locator("#trial-why").scroll_into_view_if_needed()
    expect(page.locator("#trial-why")).to_be_in_viewport()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    screenshot(page, "console-explained")
    # The evidence belongs to its picture.
    choose(page, digit(SHOWN_DIGIT + 1), "another.png")
    expect(page.locator("#trial-why")).to_be_hidden()


def test_an_image_can_be_dropped(page: Page) -> None:
    transfer = page.evaluate_handle(
        """bytes => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "digit.png", {type: "image/png"}));
          return transfer;
        }""",
        list(digit(SHOWN_DIGIT)),
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    expect(page.locator("#drop")).to_have_class("drop over")
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})
    expect(page.locator("#trial-answer")).to_be_visible()


def test_an_error_is_shown_kindly_and_goes_with_the_next_image(page: Page) -> None:
    alert = page.get_by_role("alert")
    choose(page, b"no image", "notes.txt")
    expect(alert).to_contain_text("This image cannot be used")
    expect(alert).to_contain_text("send a JPEG, PNG, WebP or BMP")
    expect(alert).to_contain_text("INVALID_ARGUMENT")
    expect(page.locator("#trial-answer")).to_be_hidden()
    screenshot(page, "console-error")
    choose(page, b"x" * (16 * 1024 * 1024 + 1), "huge.bin")
    expect(alert).to_contain_text("the limit is 16 MiB")
    choose(page, digit(SHOWN_DIGIT))
    expect(page.locator("#trial-answer")).to_be_visible()
    expect(alert).to_be_hidden()


def contrast(page: Page) -> dict[str, float]:
    """The worst contrast of text on its ground, by colours, as WCAG 2.2 defines it."""
    found: dict[str, float] = page.evaluate(
        """() => {
          const channel = (value) => {
            const share = value / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
          };
          const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
          const light = ([red, green, blue]) =>
            0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
          const ground = (element) => {
            for (let one = element; one; one = one.parentElement) {
              const color = rgb(getComputedStyle(one).backgroundColor);
              if (color.length === 3 || color[3] === 1) return color;
            }
            return [255, 255, 255];
          };
          const worst = {};
          for (const element of document.body.querySelectorAll("*")) {
            const text = [...element.childNodes].some(
              (node) => node.nodeType === 3 && node.data.trim());
            if (!text || !element.checkVisibility()) continue;
            const svg = element.closest("svg");
            const style = getComputedStyle(element);
            const above = light(rgb(svg ? style.fill : style.color));
            const below = light(ground(element));
            const ratio = (Math.max(above, below) + 0.05) / (Math.min(above, below) + 0.05);
            worst[`${element.tagName} ${element.className}`] = ratio;
          }
          return worst;
        }"""
    )
    return found


def test_light_and_dark_follow_the_system_and_can_be_read(page: Page) -> None:
    choose(page, b"no image")
    expect(page.get_by_role("alert")).to_be_visible()
    grounds = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        grounds.append(sum(map(int, re.findall(r"\d+", ground))) / 3)
        ratios = contrast(page)
        assert len(ratios) > 10
        assert min(ratios.values()) >= 4.5, min(ratios.items(), key=lambda item: item[1])
    assert grounds[0] > 220
    assert grounds[1] < 40


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_narrow_screen_needs_no_scrolling_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    choose(page, digit(SHOWN_DIGIT))
    expect(page.locator("#trial-answer")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Model card of digits version 1").click()
    box = page.get_by_role("dialog").bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width


def test_the_keyboard_reaches_all_of_it(page: Page) -> None:
    focused = page.locator("*:focus")
    page.keyboard.press("Tab")
    expect(focused).to_have_text("Skip to the models")
    expect(focused).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    if focused.inner_text() == "why not a faster one":
        # Where a provider was tried and not taken, its reason comes first.
        page.keyboard.press("Tab")
    expect(focused).to_have_accessible_name("Model card of digits version 1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(focused).to_have_accessible_name("Model card of digits version 1")
    # Three seconds later the list has been read again, and the focus has stayed.
    page.wait_for_timeout(3500)
    expect(focused).to_have_accessible_name("Model card of digits version 1")
    expect(page.get_by_alt_text("Golden image 1")).to_be_visible()
    names = []
    for _ in range(12):
        page.keyboard.press("Tab")
        names.append(focused.evaluate("one => one.id || one.textContent || one.innerHTML"))
        if "Golden image 1" in names[-1]:
            break
    assert {"live-model", "trial-model", "trial-file"} <= set(names)
    page.keyboard.press("Enter")
    expect(page.locator("#trial-answer")).to_be_visible()


def test_everything_has_a_name_for_those_who_do_not_see_it(page: Page) -> None:
    controls = page.locator(
        "button:visible, select:visible, input:visible, img:visible, svg:visible"
    )
    assert controls.count() > 8
    for control in controls.all():
        if control.get_attribute("alt") != "":
            expect(control).to_have_accessible_name(re.compile(r".+"))
    levels = page.evaluate(
        "[...document.querySelectorAll('main :is(h1, h2, h3, h4)')].map((one) => +one.tagName[1])"
    )
    assert levels[0] == 2
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_server_that_goes_is_noticed(browser: Browser, repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "digits" / "1", tmp_path / "mine" / "1")
    page = browser.new_page()
    with running_server(tmp_path) as client:
        page.goto(f"http://127.0.0.1:{client.http_port}")
        expect(page.locator("#readiness")).to_have_text("ready")
        # What is published appears, and what is gone disappears, without a reload.
        add_version(tmp_path, "mine", repository / "digits" / "1")
        expect(page.locator("#models-table")).to_contain_text("mine version 2", timeout=30_000)
        expect(page.locator("#trial-model")).to_have_value("mine/2")
    expect(page.locator("#readiness")).to_have_text("no answer", timeout=POLL_MILLISECONDS)
    choose(page, digit(SHOWN_DIGIT))
    expect(page.get_by_role("alert")).to_contain_text("The server does not respond")
    page.close()


@pytest.fixture(scope="session")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of a network of independent labels, and of one with a single logit."""
    workplace = tmp_path_factory.mktemp("labels")
    make_workplace(workplace)
    with running_server(publish_all(workplace, ("several-onnx", "one-module"))) as client:
        yield client


@pytest.fixture
def labels_page(browser: Browser, labels: Client) -> Iterator[Page]:
    page = browser.new_page(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    watch = Watch(page)
    page.goto(f"http://127.0.0.1:{labels.http_port}")
    expect(page.locator("#readiness")).to_have_text("ready")
    expect(page.locator("#models-table tbody tr")).to_have_count(2)
    yield page
    page.close()
    assert watch.complaints == []


def bars(page: Page) -> dict[str, tuple[float, bool]]:
    """By label, the width of its bar as a share of its track, and whether the label stands out."""
    found = {}
    for row in page.locator("#trial-classes li").all():
        width, track = (
            row.locator(part).evaluate("one => one.getBoundingClientRect().width")
            for part in (".fill", ".track")
        )
        weight = row.locator(".name").evaluate("one => getComputedStyle(one).fontWeight")
        found[row.locator(".name").inner_text()] = (width / track, int(weight) >= 600)
    return found


def test_a_server_with_principals_asks_for_a_token_once(
    browser: Browser, repository: Path, tmp_path: Path
) -> None:
    principals = tmp_path / "principals.json"
    tokens = write_principals(principals, {"lab": EVERYTHING, "camera": ["infer:digits"]})
    with running_server(repository, principals=principals) as client:
        page = browser.new_page(viewport=DESKTOP, reduced_motion="reduce")
        page.goto(f"http://127.0.0.1:{client.http_port}")
        dialog = page.locator("#token-dialog")
        expect(dialog).to_be_visible()
        expect(page.locator("#token-refused")).to_be_hidden()
        page.keyboard.press("Escape")
        expect(dialog).to_be_visible()
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-refused")).to_be_visible()
        page.fill("#token", tokens["lab"])
        page.keyboard.press("Enter")
        expect(dialog).to_be_hidden()
        expect(page.locator("#readiness")).to_have_text("ready")
        page.get_by_role("button", name="Model card of digits version 1").click()
        plot = page.locator("#card-body img[alt='a plot']")
        expect(plot).to_have_js_property("naturalWidth", 40)
        page.locator("#card-close").click()
        choose(page, digit(SHOWN_DIGIT))
        expect(page.locator("#trial-answer")).to_be_visible()
        page.reload()
        expect(page.locator("#readiness")).to_have_text("ready")
        expect(dialog).to_be_hidden()
        assert page.evaluate("localStorage.length + document.cookie.length") == 0
        page.close()


def test_bars_of_independent_labels_do_not_read_as_parts_of_a_whole(
    labels_page: Page, labels: Client
) -> None:
    page = labels_page
    page.select_option("#trial-model", "several-onnx/1")
    pictures, truth = pictures_of("held_out")
    # Three labels, two, one, and none: a six, a zero or eight, a two, and a one or three.
    chosen = [int((truth.sum(axis=1) == count).argmax()) for count in (3, 2, 1, 0)]
    for index in chosen:
        image = png(pictures[index])
        choose(page, image, f"{index}.png")
        answer = labels.classify(image, model="several-onnx").results[0].classification.classes
        predicted = [one.label for one in answer if one.probability >= 0.5]
        summary = page.locator("#trial-summary")
        expect(summary.locator("strong")).to_have_text(", ".join(predicted) or "No label")
        expect(summary).to_contain_text(f": {len(predicted)} of 3 labels")
        shown = bars(page)
        assert list(shown) == [one.label for one in answer]
        for one in answer:
            width, stands_out = shown[one.label]
            assert width == pytest.approx(one.probability, abs=0.02)
            assert stands_out == (one.probability >= 0.5)
        expect(page.locator("#trial-independent")).to_contain_text("do not add up to 100 %")
        expect(page.locator("#trial-classes")).to_have_accessible_name(
            "Probability of each label, independent of the others"
        )
    screenshot(page, "console-labels")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert min(contrast(page).values()) >= 4.5
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_words_of_a_card_are_whole_on_a_small_phone(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.get_by_role("button", name="Model card of digits version 1").click()
    expect(page.get_by_role("dialog")).to_contain_text("How it was verified")
    assert broken_words(page, ".card-body") == []
    screenshot(page, "card-phone")
    page.get_by_role("button", name="Close the model card").click()
    page.set_viewport_size(DESKTOP)


def test_a_network_with_one_logit_is_shown_as_two_classes(
    labels_page: Page, labels: Client
) -> None:
    page = labels_page
    pictures, _ = pictures_of("held_out")
    image = png(pictures[0])
    # What an independent answer has changed is changed back.
    page.select_option("#trial-model", "several-onnx/1")
    choose(page, image)
    expect(page.locator("#trial-independent")).to_be_visible()
    page.select_option("#trial-model", "one-module/1")
    expect(page.locator("#trial-independent")).to_be_hidden()
    answer = labels.classify(image, model="one-module").results[0].classification.classes
    expect(page.locator("#trial-summary")).to_contain_text(f"{answer[0].label} with")
    shown = bars(page)
    # However improbable, a class has a bar of one pixel.
    for one in answer:
        assert shown[one.label][0] == pytest.approx(one.probability, abs=0.03)
    assert [label for label, (_, stands_out) in shown.items() if stands_out] == [answer[0].label]
    expect(page.locator("#trial-classes")).to_have_accessible_name("Probability of each class")


def test_the_table_and_the_card_say_that_labels_are_independent(labels_page: Page) -> None:
    page = labels_page
    one, several = (row.inner_text() for row in page.locator("#models-table tbody tr").all())
    assert re.search(r"0\.9\d\d\s+mean average precision on \d+ examples", several)
    assert "independent: even, above four, loop" in several
    assert "independent" not in one
    assert "odd, even" in one
    page.get_by_role("button", name="Model card of several-onnx version 1").click()
    dialog = page.get_by_role("dialog", name="several-onnx, version 1")
    expect(dialog).to_contain_text("independent labels, each with a probability of its own")
    expect(dialog).to_contain_text("Mean average precision 0.9")


@pytest.fixture(scope="session")
def compared(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server whose version 2 takes each 3 for an 8, and has been compared on some digits."""
    model = tmp_path_factory.mktemp("compared") / "digits"
    shutil.copytree(repository / "digits" / "1", model / "1")
    write_confused(model / "1", model / "2", ("3", "8"))
    (model / "config.yaml").write_text(
        "labels: {stable: 1, canary: 2}\nshadow: {share: 1, pictures: thumbnail}\n"
    )
    with running_server(model.parent) as client:
        wait_until(lambda: client.get("/api/comparisons")[1] != "[]")
        for index in range(COMPARED):
            client.classify(digit(index))

        def compared() -> int:
            (found,) = json.loads(client.get("/api/comparisons")[1])
            return int(found["images"]["compared"])

        wait_until(lambda: compared() == COMPARED)
        yield client


def test_compared_versions_can_be_read_on_every_screen(browser: Browser, compared: Client) -> None:
    page = browser.new_page(viewport=DESKTOP, color_scheme="light", reduced_motion="reduce")
    watch = Watch(page)
    page.goto(f"http://127.0.0.1:{compared.http_port}")
    page.get_by_role("link", name="Compared").click()
    panel = page.get_by_role("article").filter(has_text="version 2 beside version 1")
    expect(panel.locator("dl")).to_contain_text(f"Images compared{COMPARED}")
    summary = panel.get_by_text("The images that differ most")
    summary.focus()
    page.keyboard.press("Enter")
    first = panel.locator(".compared-image").first
    expect(first).to_contain_text(re.compile(r"(3 .* → 8 |8 .* → 3 )"))
    expect(first.get_by_role("img")).to_have_accessible_name(re.compile(r".+"))
    # Another answer renews the panel; what is open stays open, and the focus where it was.
    compared.classify(digit(COMPARED))
    expect(panel.locator("dl")).to_contain_text(f"Images compared{COMPARED + 1}", timeout=15_000)
    expect(first).to_be_visible()
    expect(page.locator("*:focus")).to_have_text("The images that differ most")
    for scheme, width in itertools.product(("light", "dark"), (360, 1280)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        ratios = contrast(page)
        assert min(ratios.values()) >= 4.5, min(ratios.items(), key=lambda item: item[1])
    screenshot(page, "console-compared")
    page.close()
    assert watch.complaints == []
