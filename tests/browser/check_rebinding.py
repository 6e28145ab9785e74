"""DNS rebinding in a real browser: a page whose name leads to the server gets nothing from it.

Not part of the suite, since it needs Chromium: `make test-console` runs it.
"""

from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.check_console import CHROMIUM, FLAGS
from tests.support import running_server
from tests.tiny_artifact import publish_tiny

NAME = "rebound.example"
PATHS = ["/", "/metrics", "/livez", "/readyz", "/api/models", "/v2/health/live"]
# What the page could do if it were one of the server's.
ATTACK = """
async (paths) => {
    const answers = [];
    for (const path of paths) {
        const answer = await fetch(path);
        answers.push([path, answer.status, await answer.text()]);
    }
    const posted = await fetch('/api/classify?model=pets', {method: 'POST', body: 'x'});
    answers.push(['post', posted.status, await posted.text()]);
    return answers;
}
"""


def test_a_page_whose_name_leads_here_reads_and_posts_nothing(tmp_path: Path) -> None:
    publish_tiny(tmp_path)
    everywhere = "0.0.0.0"  # noqa: S104
    with (
        running_server(tmp_path, host=everywhere, insecure=True, allowed_host="server") as client,
        sync_playwright() as playwright,
    ):
        # The name's second address; its first one, the attacker's, only served the page.
        # Newer browsers ask before a page may reach this machine; the server must not need that.
        flags = [*FLAGS, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        flags.append("--disable-features=LocalNetworkAccessChecks")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page()
        origin = f"http://{NAME}:{client.http_port}"
        page.route(f"{origin}/attack", lambda route: route.fulfill(body="<p>harmless", status=200))
        page.goto(f"{origin}/attack")
        answers = page.evaluate(ATTACK, PATHS)
        assert [(path, status) for path, status, _ in answers] == [
            (path, 403) for path in (*PATHS, "post")
        ]
        assert not any("convd_" in text or "pets" in text for _, _, text in answers)
        # The same page by its address is the console.
        assert page.goto(f"http://127.0.0.1:{client.http_port}/").status == 200  # type: ignore[union-attr]
        browser.close()
