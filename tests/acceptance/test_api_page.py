"""The interactive page of the contract: complete, working and alone, in a real browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.live_service import LiveService

# The browser is the system's; none is ever downloaded.
CHROMIUM = shutil.which("chromium")
# It has nothing to fetch for itself.
ALONE = ["background-networking", "component-update", "sync", "gpu"]


@pytest.fixture
def service(database_url: str, broker_url: str, tmp_path: Path) -> Iterator[LiveService]:
    with LiveService(tmp_path, database_url=database_url, broker_url=broker_url, model_roots=[]) as running:
        yield running


def test_every_file_of_the_page_comes_from_the_service(service: LiveService) -> None:
    page = httpx.get(f"{service.url}/docs")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert re.findall(r"<script[^>]*>([^<]+)|<style|\son\w+=", page.text) == []
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(links) == 4
    for link in links:
        assert not re.match(r"[a-z]+:|/", link)
        answer = httpx.get(f"{service.url}/{link}")
        assert (answer.status_code, bool(answer.content)) == (200, True), link
    start = httpx.get(f"{service.url}/docs/start.js").text
    assert re.findall(r"https?:", start) == []
    for absent in ("files/absent.js", "files/../api_page.py", "files/%2e%2e/core.py", "absent"):
        refused = httpx.get(f"{service.url}/docs/{absent}")
        assert (refused.status_code, refused.headers["content-type"]) == (404, "application/problem+json")


@pytest.fixture
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no `chromium` on PATH; the page is not tried in a browser")
    with sync_playwright() as playwright:
        arguments = ["--no-first-run", *(f"--disable-{feature}" for feature in ALONE)]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, chromium_sandbox=False)
        yield browser.new_page()
        browser.close()


def test_a_request_is_made_from_the_page(service: LiveService, page: Page) -> None:
    """What the browser asks for goes to the service alone, and nothing that it loads breaks the policy."""
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{service.url}/docs")
    operations = page.locator(".opblock")
    contract = service.client.get("/openapi.json").json()
    shown = [*contract["paths"].values(), *contract["webhooks"].values()]
    expect(operations).to_have_count(sum(map(len, shown)))
    page.get_by_role("button", name="Authorize").click()
    page.locator(".auth-container input").fill(service.key)
    page.locator(".auth-container button[type=submit]").click()
    page.locator(".auth-container .btn-done").click()
    listing = page.locator("#operations-language_models-list_language_models_v1_models_get")
    listing.locator(".opblock-summary-control").click()
    listing.get_by_role("button", name="Try it out").click()
    listing.get_by_role("button", name="Execute").click()
    answer = listing.locator(".live-responses-table .response").first
    expect(answer.locator(".response-col_status")).to_contain_text("200")
    expect(answer.locator(".response-col_description")).to_contain_text('"object": "list"')
    assert complaints == []
    assert f"{service.url}/v1/models?limit=20" in asked
    assert [url for url in asked if not url.startswith((f"{service.url}/", "data:"))] == []
