"""The pages in a real browser, with finished work of every kind on them."""

import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.acceptance.evidence_fixture import Evidence
from tests.live_service import PATIENCE, SCOPES, fresh_key, job_process, make_key, until

# The browser is the system's; none is ever downloaded.
CHROMIUM = shutil.which("chromium")
# It has nothing to fetch for itself.
ALONE = ["background-networking", "component-update", "sync", "gpu"]
WIDTHS = (1280, 390)
SERIOUS = {"serious", "critical"}
MARKUP = "<img src=x onerror=alert(1)>"
VIEWS = (
    "/audits",
    "/audits?status=failed",
    "/audits/{audit}",
    "/audits/{plain}",
    "/audits/{audit}?sort=nl&group={group}",
    "/audits/{audit}/text?id={text}",
    "/studies",
    "/studies/{study}",
    "/edits",
    "/edits/{edit}",
    "/gates",
    "/gates/{gate}",
    "/gates/{edit_gate}",
    "/policies/{policy}",
    "/try",
    "/models",
    "/text-sets",
)
DARK = ("/audits/{audit}", "/audits/{audit}/text?id={text}", "/gates/{gate}")


class Visit:
    """A browser's page that writes down what it asked for and what it complained of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def sign_in(self, key: str) -> None:
        self.page.goto(f"{self.url}/sign-in")
        self.page.get_by_label("API key").fill(key)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_role("heading", level=1)).to_have_text("Audits")

    def show(self, path: str, *, status: int = 200) -> None:
        """Go to a page and wait for all that is on it, plots out of sight too."""
        answer = self.page.goto(f"{self.url}{path}")
        assert answer is not None
        assert answer.status == status, path
        self.page.evaluate(
            """Promise.all([...document.images].map((image) => {
                image.loading = "eager"; return image.decode(); }))"""
        )

    def elsewhere(self) -> list[str]:
        """What was asked of another host."""
        return [url for url in self.asked if not url.startswith(f"{self.url}/")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no `chromium` on PATH; the pages are not tried in a browser")
    with sync_playwright() as playwright:
        arguments = ["--no-first-run", *(f"--disable-{feature}" for feature in ALONE)]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def key(evidence: Evidence) -> str:
    return make_key(evidence.service.database_url, scopes=[*SCOPES, "audit:evidence"])


@pytest.fixture(scope="module")
def visit(evidence: Evidence, browser: Browser, key: str) -> Iterator[Visit]:
    """Somebody who signed in."""
    context = browser.new_context(color_scheme="light")
    visit = Visit(context.new_page(), evidence.service.url)
    visit.sign_in(key)
    yield visit
    context.close()


@pytest.fixture(scope="module")
def ids(evidence: Evidence) -> dict[str, str]:
    client = evidence.service.client
    most = client.get(f"/v1/audits/{evidence.audit}/scores", params={"sort": "-nl", "limit": 1}).json()
    gate = client.get(f"/v1/gates/{evidence.gates['audit']}").json()
    return {
        "audit": evidence.audit,
        "plain": evidence.plain_audit,
        "study": evidence.study,
        "edit": evidence.edit,
        "gate": evidence.gates["audit"],
        "edit_gate": evidence.gates["edit"],
        "policy": gate["policy"],
        "text": most["data"][0]["text_id"],
        "group": most["data"][0]["group"],
    }


def violations(page: Page) -> list[str]:
    """What axe finds that would keep somebody out."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:150]}" for each in found if each["impact"] in SERIOUS]


@pytest.mark.parametrize("view", VIEWS)
def test_every_page_is_whole_alone_and_fits(visit: Visit, ids: dict[str, str], view: str) -> None:
    path = view.format(**ids)
    for width in WIDTHS:
        visit.page.set_viewport_size({"width": width, "height": 900})
        visit.show(path)
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    assert visit.complaints == []
    assert visit.elsewhere() == []
    assert violations(visit.page) == []
    headings = visit.page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')].map((each) => Number(each.tagName[1]))"
    )
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(headings))


def test_dark_pages_have_contrast_too(
    browser: Browser, evidence: Evidence, key: str, ids: dict[str, str]
) -> None:
    context = browser.new_context(color_scheme="dark", viewport={"width": 1280, "height": 900})
    visit = Visit(context.new_page(), evidence.service.url)
    visit.sign_in(key)
    for view in DARK:
        visit.show(view.format(**ids))
        assert violations(visit.page) == [], view
    assert {url for url in visit.asked if url.endswith("ink=light")}
    context.close()


def test_signing_in_and_out(browser: Browser, evidence: Evidence, key: str, ids: dict[str, str]) -> None:
    context = browser.new_context()
    visit = Visit(context.new_page(), evidence.service.url)
    page = visit.page
    visit.show(f"/edits/{ids['edit']}")
    assert page.url.startswith(f"{visit.url}/sign-in?next=")
    assert violations(page) == []
    page.get_by_label("API key").fill("mak_wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("unknown or revoked")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    assert page.url == f"{visit.url}/edits/{ids['edit']}"
    (cookie,) = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert context.cookies() == []
    logs = evidence.service.logs()
    for secret in (key, cookie["value"], "mak_wrong"):
        assert secret not in logs
        assert [url for url in visit.asked if secret in url] == []
    context.close()


def test_another_tenant_finds_nothing(evidence: Evidence, ids: dict[str, str]) -> None:
    """Not one path of a page leads to what belongs to somebody else."""
    url = evidence.service.url
    stranger = make_key(evidence.service.database_url, tenant="stranger", scopes=["admin"])
    artifact = evidence.service.client.get(f"/v1/edits/{ids['edit']}").json()["artifact"]
    own = [view.format(**ids) for view in VIEWS if "{" in view]
    parts = [
        f"/audits/{ids['audit']}",
        f"/studies/{ids['study']}",
        f"/edits/{ids['edit']}",
        f"/gates/{ids['gate']}",
    ]
    own += [f"{path}/{part}" for path in parts for part in ("row", "progress", "evidence/in-toto")]
    own += [f"{parts[0]}/scores.csv", f"{parts[0]}/plots/dose-nl.svg", f"{parts[0]}/plots/distribution.svg"]
    own += [f"{parts[1]}/plots/nl.svg", f"{parts[2]}/plots/before-after-nl.svg"]
    own += [
        f"/artifacts/{artifact}/archive.tar",
        f"/try?audit={ids['audit']}",
        f"/try/progress?audit={ids['audit']}",
    ]
    with httpx.Client(base_url=url, headers={"Origin": url}, timeout=PATIENCE) as client:
        assert client.post("/sign-in", data={"key": stranger}).status_code == 303
        for path in own:
            assert client.get(path).status_code == 404, path
        lists = "".join(
            client.get(path).text for path in ("/audits", "/studies", "/edits", "/gates", "/models")
        )
        assert [name for name, each in ids.items() if name != "group" and each in lists] == []


def test_what_a_key_may_not_read_is_not_named(evidence: Evidence, ids: dict[str, str]) -> None:
    url = evidence.service.url
    shown = []
    for scopes in (SCOPES, ["audit:read"]):
        key = make_key(evidence.service.database_url, scopes=scopes)
        with httpx.Client(base_url=url, headers={"Origin": url}, timeout=PATIENCE) as client:
            client.post("/sign-in", data={"key": key})
            shown.append(client.get("/gates").text)
    reads_all, reads_audits = shown
    assert "on the edit evidence" in reads_all
    assert "on the audit " in reads_audits
    assert "on the edit " not in reads_audits
    assert ids["edit"] not in reads_audits


def test_answers_with_numbers_are_kept_for_nobody_else(evidence: Evidence, ids: dict[str, str]) -> None:
    """Who signs in after somebody at the same browser is not shown what that one saw."""
    url = evidence.service.url
    key = make_key(evidence.service.database_url, scopes=SCOPES)
    with httpx.Client(base_url=url, headers={"Origin": url}, timeout=PATIENCE) as client:
        client.post("/sign-in", data={"key": key})
        plot = client.get(f"/audits/{ids['audit']}/plots/dose-nl.svg").headers
        assert (plot["vary"], plot["cache-control"]) == ("Cookie", "private, max-age=300")
        for document in ("evidence/html", "scores.csv"):
            assert client.get(f"/audits/{ids['audit']}/{document}").headers["cache-control"] == "no-store"


def test_tokens_are_read_with_the_pointer_and_the_keyboard(visit: Visit, ids: dict[str, str]) -> None:
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    visit.show(f"/audits/{ids['audit']}/text?id={ids['text']}")
    readout = visit.page.locator("[data-readout]")
    run = visit.page.locator(".tokens").first
    run.focus()
    for _ in range(2):
        visit.page.keyboard.press("ArrowRight")
    expect(readout).to_contain_text("Token 2, ")
    expect(readout).to_contain_text("log-likelihood")
    visit.page.keyboard.press("Home")
    expect(readout).to_contain_text("Token 1, ")
    run.locator(".t").nth(4).hover()
    expect(readout).to_contain_text("Token 5, ")
    run.locator(".t").nth(3).click()
    expect(readout).to_contain_text("rank")
    evidence = visit.page.locator("details table tbody tr")
    assert evidence.count() == visit.page.locator(".tokens .t").count()


def test_a_text_is_tried(visit: Visit, ids: dict[str, str], evidence: Evidence) -> None:
    """What is pasted is what is measured: a browser's line breaks are not."""
    visit.show("/try")
    pasted = "The first line of it\nand the second, which <b>goes</b> on & on for some words more."
    visit.page.get_by_label("Before the text").select_option("eos")
    visit.page.get_by_label("Text", exact=True).fill(pasted)
    visit.page.get_by_role("button", name="Score it").click()
    expect(visit.page.get_by_role("heading", name="Token heat")).to_be_visible(timeout=30_000)
    audit = re.search(r"audit=(aud_\w+)", visit.page.url)
    assert audit is not None
    assert "second" not in visit.page.url
    (score,) = evidence.service.scores(audit[1])
    assert score["n_bytes"] == len(pasted.encode())
    expect(visit.page.locator(".cards")).to_contain_text(f"{abs(score['nl']):.3f}")
    expect(visit.page.get_by_label("Text", exact=True)).to_have_value(pasted)
    assert violations(visit.page) == []
    assert visit.complaints == []


def test_a_list_and_a_page_follow_an_audit(visit: Visit, evidence: Evidence, ids: dict[str, str]) -> None:
    service = evidence.service
    model = service.client.get(f"/v1/audits/{ids['audit']}").json()["model"]
    child = job_process(service.workers[0])
    child.suspend()
    try:
        text_set = service.upload(
            [{"id": "only", "text": "A text that is audited a little later."}], "followed"
        )
        audit = service.audit(model, text_set)
        visit.show("/audits")
        row = visit.page.locator(f"tr[hx-get='/audits/{audit}/row']")
        expect(row.locator("progress")).to_be_visible()
        link = row.get_by_role("link")
        link.focus()
        for _ in range(2):
            visit.page.wait_for_event("response", lambda answer: answer.url.endswith("/row"))
        expect(link).to_be_focused()
        followed = visit.page.context.new_page()
        followed.goto(f"{visit.url}/audits/{audit}")
        expect(followed.locator("[aria-live] .status")).to_contain_text(re.compile("queued|running"))
    finally:
        child.resume()
    expect(row).to_have_count(0, timeout=30_000)
    expect(visit.page.locator("tbody tr").first).to_contain_text("succeeded")
    expect(followed.get_by_role("heading", name="Texts")).to_be_visible(timeout=30_000)
    followed.close()
    assert visit.complaints == []


def test_nothing_that_is_sent_becomes_markup(visit: Visit, evidence: Evidence, ids: dict[str, str]) -> None:
    service = evidence.service
    model = service.client.get(f"/v1/audits/{ids['audit']}").json()["model"]
    text = {
        "id": "t",
        "text": f"{MARKUP} and <script>alert(2)</script> more",
        "group": MARKUP,
        "duplicates": 1,
    }
    text_set = service.upload([text, {**text, "id": "u", "duplicates": 2}], MARKUP)
    audit = service.audit(model, text_set, metrics=["nl", "extraction"], metadata={MARKUP: MARKUP})
    policy = service.client.post(
        "/v1/policies",
        json={
            "name": MARKUP,
            "description": f"`{MARKUP}`",
            "rules": [{"kind": "rate", "metric": "strict", "at_most": 0.5, "groups": MARKUP}],
        },
        headers=fresh_key(),
    ).json()["id"]
    service.end_of(audit)
    gate = service.client.post(
        "/v1/gates", json={"policy": policy, "audit": audit}, headers=fresh_key()
    ).json()["id"]
    until(lambda: service.client.get(f"/v1/gates/{gate}").json()["status"] == "succeeded", "the gate")
    paths = ["/audits", f"/audits/{audit}", f"/audits/{audit}?group={MARKUP}", f"/audits/{audit}/text?id=t"]
    for path in [*paths, "/text-sets", "/gates", f"/gates/{gate}", f"/policies/{policy}"]:
        visit.show(path)
        assert "onerror" in visit.page.content()
        assert visit.page.locator("[onerror]").count() == 0, path
        assert visit.page.locator("script:not([src])").count() == 0, path
    assert visit.complaints == []


def test_documents_and_files_are_downloaded(visit: Visit, ids: dict[str, str]) -> None:
    visit.show(f"/audits/{ids['audit']}")
    buttons = visit.page.locator(".evidence button")
    names = [str(each.get_attribute("formaction")).rpartition("/")[2] for each in buttons.all()]
    assert "in-toto" in names
    visit.page.get_by_label("With the texts themselves").check()
    with visit.page.expect_download() as evidence:
        buttons.nth(names.index("in-toto")).click()
    assert evidence.value.url.endswith("/evidence/in-toto?texts=full")
    with visit.page.expect_download() as rows:
        visit.page.get_by_role("link", name="CSV").click()
    assert rows.value.suggested_filename == f"{ids['audit']}.csv"
    visit.show(f"/edits/{ids['edit']}")
    with visit.page.expect_download() as archive:
        visit.page.get_by_role("link", name=re.compile("^Download")).click()
    assert archive.value.suggested_filename.endswith(".tar")


def test_pages_work_without_scripts(
    browser: Browser, evidence: Evidence, key: str, ids: dict[str, str]
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{evidence.service.url}/sign-in")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{evidence.service.url}/audits/{ids['audit']}")
    page.get_by_label("Order").select_option("nl")
    page.locator("form.filters button").click()
    assert "sort=nl" in page.url
    page.locator("table.texts tbody th a").first.click()
    page.get_by_text("The same as a table").click()
    expect(page.locator("details table tbody tr").first).to_be_visible()
    context.close()


def test_the_contract_is_a_click_away(visit: Visit) -> None:
    visit.show("/audits")
    visit.page.get_by_role("link", name="API documentation").click()
    expect(visit.page.locator(".opblock").first).to_be_visible(timeout=30_000)
    assert visit.complaints == []
    assert [url for url in visit.elsewhere() if not url.startswith("data:")] == []
