"""Signing in to the pages: sessions, what ends them, and what a session may see."""

import hashlib
from collections.abc import AsyncIterator

import httpx
import psycopg
import pytest
from fastapi import FastAPI

from app.settings import Settings
from tests.http_api import client_of, make_key

OURS = "http://memaudit"
SCOPES = ("audit:read", "audit:write", "edit:read")


@pytest.fixture
async def browser(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Whoever has not signed in, on a page of ours."""
    async with client_of(app) as client:
        client.headers.update({"Origin": OURS, "Accept": "text/html"})
        yield client


@pytest.fixture
def key(settings: Settings) -> str:
    return make_key(settings, scopes=SCOPES)


async def sign_in(browser: httpx.AsyncClient, key: str, **fields: str) -> httpx.Response:
    return await browser.post("/sign-in", data={"key": key, **fields})


async def test_a_session_begins_with_a_key_and_ends_with_signing_out(
    browser: httpx.AsyncClient, key: str, database: psycopg.Connection
) -> None:
    refused = await browser.get("/audits?status=failed")
    assert (refused.status_code, refused.headers["location"]) == (
        303,
        "/sign-in?next=%2Faudits%3Fstatus%3Dfailed",
    )
    begun = await sign_in(browser, f" {key} ", next="/audits?status=failed")
    assert (begun.status_code, begun.headers["location"]) == (303, "/audits?status=failed")
    cookie = begun.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=strict", "Path=/", "Max-Age=43200"):
        assert part in cookie
    assert "Secure" not in cookie
    token = browser.cookies["memaudit_session"]
    assert token not in key
    stored = database.execute("SELECT sha256 FROM page_sessions").fetchall()
    assert stored == [(hashlib.sha256(token.encode()).hexdigest(),)]
    assert (await browser.get("/audits")).status_code == 200
    ended = await browser.post("/sign-out")
    assert (ended.status_code, ended.headers["location"]) == (303, "/sign-in")
    assert database.execute("SELECT count(*) FROM page_sessions").fetchone() == (0,)
    # The cookie is worth nothing any more, whoever kept it.
    browser.cookies.set("memaudit_session", token)
    assert (await browser.get("/audits")).status_code == 303


async def test_over_https_the_cookie_is_never_sent_without(app: FastAPI, key: str) -> None:
    secure = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app),
        base_url="https://memaudit",
        headers={"Origin": "https://memaudit"},
    )
    async with secure as client:
        assert "; Secure" in (await sign_in(client, key)).headers["set-cookie"]


async def test_an_unknown_key_is_refused_and_not_shown_again(browser: httpx.AsyncClient) -> None:
    refused = await sign_in(browser, "mak_unknown")
    assert refused.status_code == 401
    assert "unknown or revoked" in refused.text
    assert "mak_unknown" not in refused.text
    assert "set-cookie" not in refused.headers


async def test_signing_in_again_ends_the_session_before(
    browser: httpx.AsyncClient, key: str, settings: Settings
) -> None:
    await sign_in(browser, key)
    former = browser.cookies["memaudit_session"]
    await sign_in(browser, make_key(settings, scopes=SCOPES))
    browser.cookies.clear()
    assert (await browser.get("/audits", headers={"Cookie": f"memaudit_session={former}"})).status_code == 303


ENDINGS = (
    "UPDATE page_sessions SET expires_at = now() - interval '1 second'",
    "UPDATE api_keys SET revoked_at = now()",
    "DELETE FROM api_keys",
)


async def test_what_ends_a_session(
    app: FastAPI, browser: httpx.AsyncClient, settings: Settings, database: psycopg.Connection
) -> None:
    for ending in ENDINGS:
        await sign_in(browser, make_key(settings, scopes=SCOPES))
        assert (await browser.get("/audits")).status_code == 200, ending
        database.execute(ending)
        app.state.principals.forget()  # as two seconds do
        assert (await browser.get("/audits")).headers["location"].startswith("/sign-in?next="), ending
        # A part of a page that asks for itself makes the browser load the page anew.
        part = await browser.get("/audits", headers={"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-refresh"]) == (200, "true")


async def test_sessions_that_are_over_are_forgotten(
    browser: httpx.AsyncClient, key: str, database: psycopg.Connection
) -> None:
    await sign_in(browser, key)
    database.execute("UPDATE page_sessions SET expires_at = now()")
    await sign_in(browser, key)
    assert database.execute("SELECT count(*) FROM page_sessions").fetchone() == (1,)


ELSEWHERE = (
    {"Sec-Fetch-Site": "cross-site", "Origin": OURS},
    {"Sec-Fetch-Site": "same-site", "Origin": OURS},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
)


async def test_forms_of_other_sites_are_refused(browser: httpx.AsyncClient, key: str) -> None:
    await sign_in(browser, key)
    for path in ("/sign-in", "/sign-out", "/try"):
        for headers in ELSEWHERE:
            refused = await browser.post(path, data={"key": key, "model": "", "text": ""}, headers=headers)
            assert refused.status_code == 403, (path, headers)
            assert "Sent from another site" in refused.text
    assert (await browser.get("/audits")).status_code == 200


async def test_a_browser_that_names_the_site_needs_no_origin(browser: httpx.AsyncClient, key: str) -> None:
    del browser.headers["Origin"]
    browser.headers["Sec-Fetch-Site"] = "same-origin"
    assert (await sign_in(browser, key)).status_code == 303


async def test_signing_in_leads_to_no_other_site(browser: httpx.AsyncClient, key: str) -> None:
    for elsewhere in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "evil",
        "javascript:x",
    ):
        assert (await sign_in(browser, key, next=elsewhere)).headers["location"] == "/audits", elsewhere
        form = await browser.get("/sign-in", params={"next": elsewhere})
        assert '<input type="hidden" name="next" value="/audits">' in form.text


async def test_a_key_without_a_scope_sees_no_page_of_it(app: FastAPI, settings: Settings) -> None:
    async with client_of(app) as client:
        client.headers.update({"Origin": OURS})
        await sign_in(client, make_key(settings, scopes=("edit:read",)))
        edits, audits = await client.get("/edits"), await client.get("/audits")
        assert (edits.status_code, audits.status_code) == (200, 403)
        assert 'href="/audits"' not in edits.text
        assert "audit:read" in audits.text
        assert (await client.get("/try")).status_code == 403


async def test_texts_in_evidence_take_a_scope(browser: httpx.AsyncClient, key: str) -> None:
    await sign_in(browser, key)
    path = f"/audits/aud_{'0' * 32}/evidence/in-toto"
    assert (await browser.get(path)).status_code == 404
    assert (await browser.get(path, params={"texts": "full"})).status_code == 403


async def test_every_page_and_problem_is_alone_and_kept_by_nobody(
    browser: httpx.AsyncClient, key: str
) -> None:
    answers = [await browser.get(path) for path in ("/sign-in", "/audits", "/", "/nothing")]
    answers.append(await sign_in(browser, "wrong"))
    await sign_in(browser, key)
    answers += [
        await browser.get(path) for path in ("/audits", "/gates", "/audits/aud_1", "/audits?cursor=1")
    ]
    assert [answer.status_code for answer in answers] == [200, 303, 303, 404, 401, 200, 200, 404, 422]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"


async def test_assets_are_kept_for_ever_under_the_name_of_their_content(browser: httpx.AsyncClient) -> None:
    page = (await browser.get("/sign-in")).text
    (path,) = {part for part in page.split('"') if part.endswith("/pages.css")}
    style = await browser.get(path)
    assert style.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert style.headers["content-type"].startswith("text/css")
    older = await browser.get("/static/000000000000/pages.css")
    assert (older.status_code, older.headers["cache-control"]) == (200, "no-cache")
    assert older.content == style.content
    for absent in ("/static/0/absent.css", "/static/0/..%2fassets.py", "/static/0/%2e%2e"):
        assert (await browser.get(absent)).status_code == 404


async def test_the_api_answers_as_before(browser: httpx.AsyncClient, key: str) -> None:
    """Problems of the API are documents, whoever asks; and a session is no key."""
    await sign_in(browser, key)
    for path, status in (("/v1/nothing", 404), ("/v1/audits", 401), ("/api/models/a/b/c", 404)):
        answer = await browser.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    plain = await browser.get("/nothing", headers={"Accept": "application/json"})
    assert (plain.status_code, plain.headers["content-type"]) == (404, "application/problem+json")
    contract = (await browser.get("/openapi.json")).json()["paths"]
    assert [path for path in contract if path.startswith(("/audits", "/sign-in", "/static", "/try"))] == []
