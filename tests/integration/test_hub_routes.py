"""The routes that Hugging Face's clients use, as they are answered on the wire."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from app.settings import Settings
from app.store.artifacts import Artifact
from tests.artifacts import make_artifact
from tests.http_api import client_of, make_key

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "sub/deep/notes.txt": b"notes", "sub/a": b"a"}
REPOSITORY = "/api/models/acme/edited"


@pytest.fixture
def artifact(settings: Settings, tmp_path: Path) -> Artifact:
    for path, content in FILES.items():
        (tmp_path / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / path).write_bytes(content)
    return make_artifact(settings.require_database_url(), tmp_path / "files")


@pytest.fixture
async def hub(app: FastAPI, settings: Settings, artifact: Artifact) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app, make_key(settings, scopes=("edit:read",))) as client:
        yield client


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_a_repository_says_what_it_holds(hub: httpx.AsyncClient, artifact: Artifact) -> None:
    answer = (await hub.get(REPOSITORY)).json()
    assert (answer["id"], answer["modelId"], answer["private"]) == ("acme/edited", "acme/edited", True)
    assert answer["sha"] == artifact.manifest_sha256[:40]
    assert {each["rfilename"]: each["lfs"]["sha256"] for each in answer["siblings"]} == {
        path: sha256(content) for path, content in FILES.items()
    }
    for revision in ("main", artifact.commit):
        assert (await hub.get(f"{REPOSITORY}/revision/{revision}")).json() == answer


async def test_the_tree_and_its_folders(hub: httpx.AsyncClient) -> None:
    async def listed(path: str, recursive: str) -> list[tuple[str, str]]:
        answer = await hub.get(f"{REPOSITORY}/tree/main{path}", params={"recursive": recursive})
        return [(each["type"], each["path"]) for each in answer.json()]

    assert await listed("", "False") == [
        ("directory", "sub"),
        ("file", "config.json"),
        ("file", "model.safetensors"),
    ]
    assert {path for kind, path in await listed("", "True") if kind == "file"} == FILES.keys()
    assert await listed("/sub", "False") == [("directory", "sub/deep"), ("file", "sub/a")]
    assert await listed("/sub", "True") == [
        ("directory", "sub/deep"),
        ("file", "sub/a"),
        ("file", "sub/deep/notes.txt"),
    ]
    absent = await hub.get(f"{REPOSITORY}/tree/main/additional_chat_templates")
    assert (absent.status_code, absent.headers["x-error-code"]) == (404, "EntryNotFound")


async def test_a_file_is_resolved(hub: httpx.AsyncClient, artifact: Artifact) -> None:
    for revision in ("main", artifact.commit):
        for path, content in FILES.items():
            url = f"/acme/edited/resolve/{revision}/{path}"
            answer, head = await hub.get(url), await hub.head(url)
            assert (answer.status_code, answer.content) == (200, content)
            for response in (answer, head):
                assert response.headers["x-repo-commit"] == artifact.commit
                assert response.headers["etag"] == response.headers["x-linked-etag"]
                assert response.headers["etag"] == f'"{sha256(content)}"'
                assert response.headers["x-linked-size"] == response.headers["content-length"]
    ranged = await hub.get("/acme/edited/resolve/main/model.safetensors", headers={"Range": "bytes=3-"})
    assert (ranged.status_code, ranged.content) == (206, b"ghts")
    after = await hub.get("/acme/edited/resolve/main/model.safetensors", headers={"Range": "bytes=7-"})
    assert (after.status_code, after.headers["content-range"]) == (416, "bytes */7")
    assert after.headers["x-repo-commit"] == artifact.commit


async def test_what_is_missing_is_named(
    hub: httpx.AsyncClient, artifact: Artifact, subtests: pytest.Subtests
) -> None:
    missing = {
        "/acme/edited/resolve/main/generation_config.json": "EntryNotFound",
        "/acme/edited/resolve/main/sub": "EntryNotFound",
        "/acme/edited/resolve/main/%00": "EntryNotFound",
        "/acme/edited/resolve/v2/config.json": "RevisionNotFound",
        f"/acme/edited/resolve/{'0' * 40}/config.json": "RevisionNotFound",
        "/acme/absent/resolve/main/config.json": "RepoNotFound",
        "/other/edited/resolve/main/config.json": "RepoNotFound",
        f"{REPOSITORY}/revision/v2": "RevisionNotFound",
        f"{REPOSITORY}/tree/v2": "RevisionNotFound",
        "/api/models/acme/absent": "RepoNotFound",
        "/api/models/other/edited": "RepoNotFound",
        "/api/models/acme/a%00b": "RepoNotFound",
    }
    for url, code in missing.items():
        with subtests.test(url=url):
            answer = await hub.get(url)
            assert (answer.status_code, answer.headers["x-error-code"]) == (404, code)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers.get("x-repo-commit") == (
                artifact.commit if code == "EntryNotFound" else None
            )


async def test_keys_that_may_not_read(app: FastAPI, settings: Settings, artifact: Artifact) -> None:
    url = "/acme/edited/resolve/main/config.json"
    async with client_of(app) as nobody:
        answer = await nobody.get(url)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["x-error-message"] == "Invalid credentials in Authorization header"
    async with client_of(app, make_key(settings)) as auditor:
        assert (await auditor.get(url)).status_code == 403
    async with client_of(app, make_key(settings, tenant="other", scopes=("edit:read",))) as stranger:
        for hidden in (url, REPOSITORY):
            answer = await stranger.get(hidden)
            assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RepoNotFound")
