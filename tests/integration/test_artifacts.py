"""Downloading artifacts: manifests, files with conditions and ranges, archives; and deleting them."""

import hashlib
import io
import itertools
import tarfile
from pathlib import Path

import httpx
import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy.orm import Session

from app.settings import Settings
from app.store.blobs.rows import CHUNK_BYTES
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine
from app.store.language_models import LanguageModel
from tests.artifacts import make_artifact
from tests.http_api import client_of, make_key

EDIT_SCOPES = ("edit:read", "edit:write")
SMALL = b"0123456789"
ETAG = f'"{hashlib.sha256(SMALL).hexdigest()}"'
OTHER = f'"{"0" * 64}"'


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


async def test_the_manifest_names_every_file(
    editor: httpx.AsyncClient, artifact: str, artifact_directory: Path
) -> None:
    answer = (await editor.get(f"/v1/artifacts/{artifact}")).json()
    assert [file["path"] for file in answer["files"]] == ["empty", "small.txt", "sub/large.bin"]
    lines = ""
    for file in answer["files"]:
        content = (artifact_directory / file["path"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), sha256(content))
        lines += f"{file['sha256']}  {file['path']}\n"
    assert answer["manifest_sha256"] == sha256(lines.encode())
    assert answer["revision"] == answer["manifest_sha256"][:40]
    assert answer["total_bytes"] == sum(file["size"] for file in answer["files"])
    assert (answer["model_repo"], answer["object"]) == ("acme/edited", "artifact")
    listed = (await editor.get("/v1/artifacts")).json()
    assert listed["data"] == [answer]


async def test_a_whole_file(editor: httpx.AsyncClient, artifact: str, artifact_directory: Path) -> None:
    for path in ("small.txt", "empty", "sub/large.bin"):
        content = (artifact_directory / path).read_bytes()
        url = f"/v1/artifacts/{artifact}/files/{path}"
        answer = await editor.get(url)
        assert (answer.status_code, answer.content) == (200, content)
        head = await editor.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for response in (answer, head):
            assert response.headers["etag"] == f'"{sha256(content)}"'
            assert response.headers["accept-ranges"] == "bytes"
            assert response.headers["content-length"] == str(len(content))
            name = path.rpartition("/")[2]
            assert response.headers["content-disposition"] == f'attachment; filename="{name}"'


async def test_a_figure_is_said_to_be_one_and_cannot_act(
    editor: httpx.AsyncClient, artifact_directory: Path, settings: Settings
) -> None:
    figures = artifact_directory / "figures"
    figures.mkdir()
    (figures / "frontier.svg").write_bytes(SMALL)
    artifact = format_id(
        Prefix.ARTIFACT, make_artifact(settings.require_database_url(), artifact_directory).id
    )
    types = {"figures/frontier.svg": "image/svg+xml", "small.txt": "application/octet-stream"}
    for path, media_type in types.items():
        for url in (f"/v1/artifacts/{artifact}/files/{path}", f"/acme/edited/resolve/main/{path}"):
            for answer in (
                await editor.get(url),
                await editor.head(url),
                await editor.get(url, headers={"Range": "bytes=1-2"}),
            ):
                assert answer.status_code in {200, 206}
                assert answer.headers["content-type"] == media_type
                assert answer.headers["content-disposition"].startswith("attachment")
                assert answer.headers["content-security-policy"] == "default-src 'none'"
                assert answer.headers["x-content-type-options"] == "nosniff"


RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=2-5": (2, 6),
    "bytes=7-": (7, 10),
    "bytes=-3": (7, 10),
    "bytes=-300": (0, 10),
    "bytes=5-99999": (5, 10),
    "Bytes = 1-2": (1, 3),
}
NO_SINGLE_RANGES = (
    "bytes=0-1,4-5",
    "bytes=5-2",
    "bytes=99-2",
    "bytes=",
    "bytes=-",
    "lines=1-2",
    "x",
    "bytes=1-x",
    "bytes=0-" + "9" * 4000,
)
AFTER_THE_END = {
    "small.txt": ("bytes=10-", "bytes=11-12", "bytes=-0", "bytes=999999999999999999-"),
    "empty": ("bytes=0-", "bytes=-1"),
}


async def test_ranges(editor: httpx.AsyncClient, artifact: str, subtests: pytest.Subtests) -> None:
    url = f"/v1/artifacts/{artifact}/files/small.txt"
    for wanted, (start, stop) in RANGES.items():
        with subtests.test(wanted=wanted):
            answer = await editor.get(url, headers={"Range": wanted})
            assert (answer.status_code, answer.content) == (206, SMALL[start:stop])
            assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/10"
            assert answer.headers["content-length"] == str(stop - start)
            assert answer.headers["etag"] == ETAG
    for wanted in NO_SINGLE_RANGES:
        with subtests.test(wanted=wanted[:30]):
            answer = await editor.get(url, headers={"Range": wanted})
            assert (answer.status_code, answer.content) == (200, SMALL)


async def test_ranges_after_the_end(
    editor: httpx.AsyncClient, artifact: str, subtests: pytest.Subtests
) -> None:
    for path, ranges in AFTER_THE_END.items():
        for wanted in ranges:
            with subtests.test(path=path, wanted=wanted):
                url = f"/v1/artifacts/{artifact}/files/{path}"
                answer = await editor.get(url, headers={"Range": wanted})
                assert answer.status_code == 416
                assert answer.headers["content-range"] == f"bytes */{10 if path == 'small.txt' else 0}"
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["type"].endswith("/range-not-satisfiable")


async def test_ranges_across_chunks(
    editor: httpx.AsyncClient, artifact: str, artifact_directory: Path
) -> None:
    content = (artifact_directory / "sub" / "large.bin").read_bytes()
    edges = (0, CHUNK_BYTES - 1, CHUNK_BYTES, len(content) - 1)
    for first, last in itertools.combinations_with_replacement(edges, 2):
        headers = {"Range": f"bytes={first}-{last}"}
        answer = await editor.get(f"/v1/artifacts/{artifact}/files/sub/large.bin", headers=headers)
        assert answer.status_code == 206
        assert answer.content == content[first : last + 1]


CONDITIONS: tuple[tuple[int, dict[str, str]], ...] = (
    (304, {"If-None-Match": ETAG}),
    (304, {"If-None-Match": f"W/{ETAG}"}),
    (304, {"If-None-Match": f"{OTHER}, {ETAG}"}),
    (304, {"If-None-Match": "*"}),
    (200, {"If-None-Match": OTHER}),
    (304, {"If-None-Match": ETAG, "Range": "bytes=0-1"}),
    (200, {"If-Match": ETAG}),
    (200, {"If-Match": "*"}),
    (412, {"If-Match": OTHER}),
    (412, {"If-Match": f"W/{ETAG}"}),
    (412, {"If-Match": OTHER, "If-None-Match": ETAG}),
    (304, {"If-Match": ETAG, "If-None-Match": ETAG}),
    (206, {"If-Range": ETAG, "Range": "bytes=0-1"}),
    (200, {"If-Range": OTHER, "Range": "bytes=0-1"}),
    (200, {"If-Range": f"W/{ETAG}", "Range": "bytes=0-1"}),
    (200, {"If-Range": "Sat, 01 Jan 2050 00:00:00 GMT", "Range": "bytes=0-1"}),
    (200, {"If-Range": OTHER, "Range": "bytes=99-"}),
    (200, {"If-Range": ETAG}),
)


async def test_conditions(editor: httpx.AsyncClient, artifact: str, subtests: pytest.Subtests) -> None:
    url = f"/v1/artifacts/{artifact}/files/small.txt"
    for status, headers in CONDITIONS:
        with subtests.test(headers=headers):
            answer = await editor.get(url, headers=headers)
            assert answer.status_code == status
            if status == 304:
                assert answer.content == b""
                assert answer.headers["etag"] == ETAG
            elif status == 412:
                assert answer.json()["type"].endswith("/precondition-failed")
            else:
                assert answer.content == (SMALL[:2] if status == 206 else SMALL)
            head = await editor.head(url, headers=headers)
            # A range means nothing to HEAD.
            assert head.status_code == (200 if status == 206 else status)


async def test_the_archive_holds_the_files(
    editor: httpx.AsyncClient, artifact: str, artifact_directory: Path
) -> None:
    answer = await editor.get(f"/v1/artifacts/{artifact}/archive.tar")
    assert answer.status_code == 200
    assert answer.headers["content-length"] == str(len(answer.content))
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        members = {member.name: member for member in archive.getmembers()}
        assert set(members) == {"small.txt", "empty", "sub/large.bin"}
        for name, member in members.items():
            extracted = archive.extractfile(member)
            assert extracted is not None
            assert extracted.read() == (artifact_directory / name).read_bytes()
    again = await editor.get(f"/v1/artifacts/{artifact}/archive.tar")
    assert again.content == answer.content


async def test_paths_that_tar_keeps_in_its_extended_headers(
    editor: httpx.AsyncClient, settings: Settings, tmp_path: Path
) -> None:
    path = "/".join(["folder" * 6] * 5) + "/file"
    (tmp_path / "long" / path).parent.mkdir(parents=True)
    (tmp_path / "long" / path).write_bytes(SMALL)
    made = make_artifact(settings.require_database_url(), tmp_path / "long")
    answer = await editor.get(f"/v1/artifacts/{format_id(Prefix.ARTIFACT, made.id)}/archive.tar")
    assert answer.headers["content-length"] == str(len(answer.content))
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        assert archive.getnames() == [path]


@pytest.mark.parametrize("url", ["files/sub/large.bin", "archive.tar"])
async def test_corrupt_bytes_are_answered_with_a_problem(
    editor: httpx.AsyncClient, artifact: str, database: psycopg.Connection, url: str
) -> None:
    database.execute("UPDATE blob_chunks SET data = set_byte(data, 0, get_byte(data, 0) # 1) WHERE size > 0")
    answer = await editor.get(f"/v1/artifacts/{artifact}/{url}")
    assert answer.status_code == 500
    assert answer.json()["type"].endswith("/artifact-corrupt")


async def test_other_tenants_see_nothing(app: FastAPI, settings: Settings, artifact: str) -> None:
    async with client_of(app, make_key(settings, tenant="other", scopes=EDIT_SCOPES)) as stranger:
        assert (await stranger.get("/v1/artifacts")).json()["data"] == []
        for url in ("", "/files/small.txt", "/archive.tar"):
            assert (await stranger.get(f"/v1/artifacts/{artifact}{url}")).status_code == 404
        assert (await stranger.delete(f"/v1/artifacts/{artifact}")).status_code == 404


async def test_a_deleted_artifact_is_gone(editor: httpx.AsyncClient, artifact: str) -> None:
    assert (await editor.delete(f"/v1/artifacts/{artifact}")).status_code == 204
    for url in ("", "/files/small.txt", "/archive.tar"):
        assert (await editor.get(f"/v1/artifacts/{artifact}{url}")).status_code == 404
    assert (await editor.delete(f"/v1/artifacts/{artifact}")).status_code == 404


async def test_an_artifact_with_a_language_model_stays(
    editor: httpx.AsyncClient, settings: Settings, database: psycopg.Connection, artifact: str
) -> None:
    row = database.execute("SELECT tenant_id FROM artifacts").fetchone()
    assert row is not None
    engine = sync_engine(settings.require_database_url())
    source = {"type": "artifact", "artifact": artifact}
    with Session(engine) as session, session.begin():
        session.add(LanguageModel(tenant_id=row[0], source=source, status="ready"))
    engine.dispose()
    answer = await editor.delete(f"/v1/artifacts/{artifact}")
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "resource-in-use")
    database.execute("UPDATE language_models SET deleted_at = now()")
    assert (await editor.delete(f"/v1/artifacts/{artifact}")).status_code == 204
