"""Lists that are narrowed: the oracle is a Python filter over the whole list."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.orm import Session, sessionmaker

from app.contracts.texts import TextSetRole
from app.settings import Settings
from app.store.artifacts import Artifact, get_artifact_by_repo
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.edits import EditTextSet
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.operations import OperationStatus
from app.store.tenants import Tenant
from tests.artifacts import make_artifact
from tests.http_api import client_of, make_key
from tests.integration.rows import add_audit_rows, add_edit, add_ready_model

SECRET = "canary-5b1"
METADATA: list[dict[str, Any]] = [
    {"team": "privacy", "run": 7, "final": True},
    {"team": "privacy", "run": "7", "final": False},
    {"team": "legal", "run": 7.0, "final": "true"},
    {"team": "legal", "run": 70, "nested": {"team": "privacy"}, "list": ["privacy"]},
    {"team": None, "a[b": "x", "ключ & =": "ä b%"},
    {},
]
# What is asked for under a key, and the values that it finds.
METADATA_FILTERS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("team", "privacy", ("privacy",)),
    ("team", "priv", ()),
    ("run", "7", (7, "7")),
    ("run", "7.0", (7,)),
    ("final", "true", (True, "true")),
    ("final", "false", (False,)),
    ("final", "1", ()),
    ("team", "null", ()),
    ("nested", '{"team":"privacy"}', ()),
    ("list", "privacy", ()),
    ("ключ & =", "ä b%", ("ä b%",)),
    ("absent", "", ()),
    ("run", "1e999", ()),
    ("run", "9" * 400, ()),
]


@pytest.fixture
async def everything(
    client: httpx.AsyncClient, settings: Settings, sessions: sessionmaker[Session], tmp_path: Any
) -> None:
    """Two tenants with audits, edits, models and text sets of every status and metadata."""
    make_key(settings, tenant="other")
    (tmp_path / "config.json").write_text("{}")
    artifacts = {
        name: make_artifact(settings.require_database_url(), tmp_path, name="edited", tenant=name)
        for name in ("acme", "other")
    }
    with sessions.begin() as session:
        for name in ("acme", "other"):
            tenant_id = session.scalars(select(Tenant.id).where(Tenant.name == name)).one()
            for number in range(12):
                fill(session, tenant_id, number)
            edited = add_ready_model(session, tenant_id)
            edited.source = {
                "type": "artifact",
                "artifact": format_id(Prefix.ARTIFACT, artifacts[name].id),
            }
            edited.base_model_id = session.scalars(
                select(LanguageModel.id).where(LanguageModel.tenant_id == tenant_id).limit(1)
            ).one()


def fill(session: Session, tenant_id: Any, number: int) -> None:
    metadata = METADATA[number % len(METADATA)]
    audit = add_audit_rows(session, tenant_id)
    audit.metadata_, audit.status = metadata, list(OperationStatus)[number % 5]
    model = session.get_one(LanguageModel, audit.language_model_id)
    model.metadata_, model.status = metadata, list(LanguageModelStatus)[number % 3]
    again = add_audit_rows(session, tenant_id)
    again.language_model_id, again.text_set_id = audit.language_model_id, audit.text_set_id
    edit = add_edit(session, tenant_id, list(OperationStatus)[number % 5])
    edit.metadata_ = metadata
    for role in list(TextSetRole)[: number % 3]:
        session.add(
            EditTextSet(edit_id=edit.id, role=role, text_set_id=audit.text_set_id, hmac_sha256="e" * 64)
        )


@pytest.fixture
def both(app: FastAPI, settings: Settings) -> httpx.AsyncClient:
    """A client that may read audits and edits."""
    return client_of(app, make_key(settings, scopes=("audit:read", "audit:write", "edit:read")))


def is_one_of(value: Any, values: tuple[Any, ...]) -> bool:
    """Whether values hold one, where True is not 1."""
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values)


async def listed(client: httpx.AsyncClient, path: str, **params: str) -> list[dict[str, Any]]:
    """All pages of a list, five a page."""
    rows: list[dict[str, Any]] = []
    while True:
        response = await client.get(path, params={"limit": "5", **params})
        assert response.status_code == 200, response.text
        page = response.json()
        rows += page["data"]
        if not page["has_more"]:
            return rows
        params["cursor"] = page["next_cursor"]


@pytest.mark.usefixtures("everything")
async def test_audits_and_edits_by_model_and_status(
    both: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    for path in ("/v1/audits", "/v1/edits"):
        rows = await listed(both, path)
        assert len(rows) == (24 if path == "/v1/audits" else 12)
        for name in ("model", "status"):
            for value in {row[name] for row in rows}:
                with subtests.test(path=path, name=name, value=value):
                    found = await listed(both, path, **{name: value})
                    assert found == [row for row in rows if row[name] == value]
        assert await listed(both, path, status="queued", model=rows[0]["model"]) == [
            row for row in rows if row["status"] == "queued" and row["model"] == rows[0]["model"]
        ]
        assert await listed(both, path, model=f"mdl_{new_id().hex}") == []


@pytest.mark.usefixtures("everything")
async def test_audits_and_edits_by_text_set(both: httpx.AsyncClient) -> None:
    audits = await listed(both, "/v1/audits")
    for text_set in {audit["text_set"] for audit in audits}:
        found = await listed(both, "/v1/audits", text_set=text_set)
        assert found == [audit for audit in audits if audit["text_set"] == text_set]
    edits = await listed(both, "/v1/edits")
    used = {edit["id"]: set(edit["text_sets"].values()) for edit in edits}
    assert {len(text_sets) for text_sets in used.values()} == {0, 1}
    for text_set in {text_set for text_sets in used.values() for text_set in text_sets}:
        found = await listed(both, "/v1/edits", text_set=text_set)
        assert [edit["id"] for edit in found] == [key for key, sets in used.items() if text_set in sets]


@pytest.mark.usefixtures("everything")
async def test_every_list_by_metadata(both: httpx.AsyncClient, subtests: pytest.Subtests) -> None:
    for number, metadata in enumerate(METADATA):
        body = {"name": f"set {number}", "texts": [{"text": "x"}], "metadata": metadata}
        assert (await both.post("/v1/text-sets", json=body)).status_code == 201
    for path in ("/v1/audits", "/v1/edits", "/v1/models", "/v1/text-sets"):
        rows = await listed(both, path)
        for key, written, values in METADATA_FILTERS:
            with subtests.test(path=path, key=key, written=written[:20]):
                found = await listed(both, path, **{f"metadata[{key}]": written})
                assert found == [row for row in rows if is_one_of(row["metadata"].get(key), values)]
        with subtests.test(path=path, two=True):
            found = await listed(both, path, **{"metadata[team]": "privacy", "metadata[final]": "true"})
            assert found
            assert found == [row for row in rows if row["metadata"] == METADATA[0]]


@pytest.mark.usefixtures("everything")
async def test_models_by_status_and_base(both: httpx.AsyncClient) -> None:
    rows = await listed(both, "/v1/models")
    for status in LanguageModelStatus:
        found = await listed(both, "/v1/models", status=status)
        assert found
        assert found == [row for row in rows if row["status"] == status]
    (edited,) = [row for row in rows if row["base_model"]]
    assert await listed(both, "/v1/models", base_model=edited["base_model"]) == [edited]


@pytest.mark.usefixtures("everything")
async def test_an_edited_model_by_the_name_of_its_repository(
    both: httpx.AsyncClient, sessions: sessionmaker[Session]
) -> None:
    (edited,) = [row for row in await listed(both, "/v1/models") if row["base_model"]]
    assert await listed(both, "/v1/models", model_repo="acme/edited") == [edited]
    for absent in ("acme/absent", "other/edited", "edited", "acme/edited/", "/edited", "", f"{SECRET}/x"):
        assert await listed(both, "/v1/models", model_repo=absent) == []
    with sessions.begin() as session:
        artifact = get_artifact_by_repo(session, "acme", "edited")
        session.get_one(Artifact, artifact.id).deleted_at = artifact.created_at
    assert await listed(both, "/v1/models", model_repo="acme/edited") == []


async def test_text_sets_by_name(client: httpx.AsyncClient) -> None:
    for name in ("books", "books", "Books", "books "):
        await client.post("/v1/text-sets", json={"name": name, "texts": [{"text": "x"}]})
    assert [row["name"] for row in await listed(client, "/v1/text-sets", name="books")] == ["books"] * 2
    assert await listed(client, "/v1/text-sets", name="book") == []


async def test_text_sets_by_status_and_preset(client: httpx.AsyncClient) -> None:
    await client.post("/v1/text-sets", json={"name": "books", "texts": [{"text": "x"}]})
    for preset in ("hubble/wikipedia", "hubble/mmlu"):
        headers = {"Idempotency-Key": preset}
        accepted = await client.post("/v1/text-sets", json={"preset": preset}, headers=headers)
        assert accepted.status_code == 202
    rows = await listed(client, "/v1/text-sets")
    for name, value in (
        ("status", "ready"),
        ("status", "importing"),
        ("status", "failed"),
        ("preset", "hubble/mmlu"),
        ("preset", "hubble/none"),
    ):
        found = await listed(client, "/v1/text-sets", **{name: value})
        assert found == [row for row in rows if row[name] == value]
    assert len(await listed(client, "/v1/text-sets", status="importing", preset="hubble/mmlu")) == 1


@pytest.mark.usefixtures("everything")
async def test_a_cursor_of_another_filter_only_says_where_to_go_on(both: httpx.AsyncClient) -> None:
    rows = await listed(both, "/v1/audits")
    first = (await both.get("/v1/audits", params={"status": "queued", "limit": 2})).json()
    place = [row["id"] for row in rows].index(first["data"][-1]["id"])
    found = await listed(both, "/v1/audits", status="failed", cursor=first["next_cursor"])
    assert found == [row for row in rows[place + 1 :] if row["status"] == "failed"]


BAD: dict[str, tuple[str, ...]] = {
    "/v1/audits": (
        f"model={SECRET}",
        "model=",
        f"text_set=mdl_{'0' * 32}",
        f"status={SECRET}",
        "status=ready",
    ),
    "/v1/edits": (f"model=mdl_{'g' * 32}", f"text_set={SECRET}", "status=", "status=QUEUED"),
    "/v1/models": ("status=running", f"base_model={SECRET}", "model_repo=%00", f"model_repo={SECRET * 40}"),
    "/v1/text-sets": ("name=%00", f"name={SECRET * 40}", f"status={SECRET}", "preset=%00"),
}
BAD_METADATA = (
    f"metadata={SECRET}",
    f"metadata.team={SECRET}",
    f"metadata[]={SECRET}",
    f"metadata[a][b]={SECRET}",
    f"metadata[{SECRET}",
    f"metadata[a]={SECRET}&metadata[a]={SECRET}",
    f"metadata[%00]={SECRET}",
    f"metadata[a]=%00{SECRET}",
    f"metadata[a]={SECRET * 60}",
    f"metadata[{SECRET * 60}]=x",
    "&".join(f"metadata[{number}]=x" for number in range(9)),
)


async def test_malformed_filters_are_refused_without_an_echo(
    both: httpx.AsyncClient, capfd: pytest.CaptureFixture[str], subtests: pytest.Subtests
) -> None:
    for path, queries in BAD.items():
        for query in (*queries, *BAD_METADATA):
            with subtests.test(path=path, query=query[:40]):
                response = await both.get(f"{path}?{query}")
                assert (response.status_code, response.headers["content-type"]) == (
                    422,
                    "application/problem+json",
                )
                parameter = query.partition("=")[0].partition("[")[0].partition(".")[0]
                assert [error["pointer"] for error in response.json()["errors"]] == [f"/{parameter}"]
                assert SECRET not in response.text + "".join(capfd.readouterr())


async def test_who_has_no_key_learns_nothing_of_filters(app: FastAPI) -> None:
    async with client_of(app) as nobody:
        for path in BAD:
            assert (await nobody.get(f"{path}?metadata={SECRET}")).status_code == 401
