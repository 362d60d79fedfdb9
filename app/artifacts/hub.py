"""Artifacts as a Hugging Face hub serves repositories, for clients whose `HF_ENDPOINT` is this service.

A repository is `<tenant>/<artifact name>`; its one branch is `main`; its one commit is the beginning of its
manifest's digest. The client learns from `X-Error-Code` what is missing: an optional file that a repository
does not have is no failure to it.
"""

import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from app.artifacts.conditions import etag_of
from app.artifacts.sending import FILE_RESPONSES, FileConditions, send_file
from app.artifacts.service import Member
from app.errors import InsufficientScope, MemauditError, NotFound, Unauthorized
from app.http.dependencies import EditReader, StoreDependency
from app.http.json_body import StrictJSONRoute
from app.http.problems import answer_problem
from app.store.artifacts import (
    ARTIFACT_NAME,
    COMMIT_DIGITS,
    Artifact,
    ArtifactFile,
    get_artifact_by_repo,
    get_file,
    list_files,
)
from app.store.blobs.reading import get_blob
from app.store.tenants import Principal

BRANCH: Final = "main"
# What git calls a pointer to a large file has about this size; clients show it and use it for nothing.
_POINTER_BYTES: Final = 134


class HubNotFound(NotFound):
    """What the client looked for is not there; `code` says what, in the words of the hub."""

    def __init__(self, detail: str, code: str, commit: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.commit = commit


class HubRoute(StrictJSONRoute):
    """A route whose failures tell Hugging Face's client in headers what they are."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, with headers on its expected failures."""
        handle = super().get_route_handler()

        async def handle_for_hub(request: Request) -> Response:
            try:
                return await handle(request)
            except HubNotFound as error:
                headers = {"X-Error-Code": error.code, "X-Error-Message": error.detail}
                if error.commit is not None:
                    headers["X-Repo-Commit"] = error.commit
                return answer_problem(request, error, headers)
            except (Unauthorized, InsufficientScope) as error:
                return answer_problem(request, error, _refusal_headers(error))

        return handle_for_hub


def _refusal_headers(error: MemauditError) -> dict[str, str]:
    if isinstance(error, Unauthorized):
        # The words by which the client tells a wrong key from a repository that it may not see.
        wrong = "Invalid credentials in Authorization header"
        return {"WWW-Authenticate": "Bearer", "X-Error-Message": wrong}
    return {"X-Error-Message": error.detail}


class HubModel(BaseModel):
    """A repository as `HfApi.model_info` reads it."""

    id: str
    modelId: str  # noqa: N815 - the hub's own name
    author: str
    sha: str
    lastModified: str  # noqa: N815 - as above
    createdAt: str  # noqa: N815 - as above
    private: Literal[True] = True
    gated: Literal[False] = False
    disabled: Literal[False] = False
    downloads: int = 0
    likes: int = 0
    tags: list[str] = ["transformers", "safetensors", "text-generation"]
    pipeline_tag: str = "text-generation"
    library_name: str = "transformers"
    siblings: list[dict[str, Any]]


router = APIRouter(tags=["hub"], route_class=HubRoute)


@router.get("/api/models/{tenant}/{name}")
async def read_repository(tenant: str, name: str, principal: EditReader, store: StoreDependency) -> HubModel:
    """Read what a Hugging Face client wants to know of a repository."""
    return await store.run(_describe, principal, tenant, name, BRANCH)


@router.get("/api/models/{tenant}/{name}/revision/{revision}")
async def read_revision(
    tenant: str, name: str, revision: str, principal: EditReader, store: StoreDependency
) -> HubModel:
    """Read a repository at a revision: `main`, or its one commit."""
    return await store.run(_describe, principal, tenant, name, revision)


@router.get("/api/models/{tenant}/{name}/tree/{revision}")
async def list_tree(
    tenant: str,
    name: str,
    revision: str,
    principal: EditReader,
    store: StoreDependency,
    recursive: Annotated[bool, Query()] = False,
) -> list[dict[str, Any]]:
    """List a repository's files, as `HfApi.list_repo_tree` does."""
    return await store.run(_list_tree, principal, tenant, name, revision, "", recursive)


@router.get("/api/models/{tenant}/{name}/tree/{revision}/{folder:path}")
async def list_subtree(
    tenant: str,
    name: str,
    revision: str,
    folder: str,
    principal: EditReader,
    store: StoreDependency,
    recursive: Annotated[bool, Query()] = False,
) -> list[dict[str, Any]]:
    """List the files of a folder of a repository."""
    return await store.run(_list_tree, principal, tenant, name, revision, f"{folder}/", recursive)


@router.head("/{tenant}/{name}/resolve/{revision}/{path:path}", include_in_schema=False)
@router.get(
    "/{tenant}/{name}/resolve/{revision}/{path:path}", response_class=Response, responses=FILE_RESPONSES
)
async def resolve_file(
    tenant: str,
    name: str,
    revision: str,
    path: str,
    principal: EditReader,
    store: StoreDependency,
    conditions: FileConditions,
) -> Response:
    """Download a file of a repository, or a range of it."""
    artifact, member = await store.run(_find_file, principal, tenant, name, revision, path)
    file, _ = member
    headers = {
        "X-Repo-Commit": artifact.commit,
        "X-Linked-Etag": etag_of(file.sha256),
        "X-Linked-Size": str(file.size),
    }
    return await send_file(store, principal, member, conditions, headers)


def _find(session: Session, principal: Principal, tenant: str, name: str, revision: str) -> Artifact:
    """The artifact behind a repository at a revision.

    Raises:
        HubNotFound: this tenant has no such repository, or the repository no such revision.
    """
    missing = HubNotFound("There is no such repository.", "RepoNotFound")
    if tenant != principal.tenant_name or re.fullmatch(ARTIFACT_NAME, name) is None:
        raise missing
    try:
        artifact = get_artifact_by_repo(session, tenant, name)
    except NotFound:
        raise missing from None
    if revision not in {BRANCH, artifact.commit}:
        raise HubNotFound("The repository has no such revision.", "RevisionNotFound")
    return artifact


def _find_file(
    session: Session, principal: Principal, tenant: str, name: str, revision: str, path: str
) -> tuple[Artifact, Member]:
    artifact = _find(session, principal, tenant, name, revision)
    try:
        file = get_file(session, artifact.id, path)
    except NotFound:
        raise HubNotFound("The repository has no such file.", "EntryNotFound", artifact.commit) from None
    return artifact, (file, get_blob(session, file.sha256))


def _describe(session: Session, principal: Principal, tenant: str, name: str, revision: str) -> HubModel:
    artifact = _find(session, principal, tenant, name, revision)
    repository, made = f"{tenant}/{name}", artifact.created_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    siblings = [
        {"rfilename": file.path, "size": file.size, "blobId": _git_id(file), "lfs": _large_file(file)}
        for file in list_files(session, artifact.id)
    ]
    return HubModel(
        id=repository,
        modelId=repository,
        author=tenant,
        sha=artifact.commit,
        lastModified=made,
        createdAt=made,
        siblings=siblings,
    )


def _list_tree(
    session: Session,
    principal: Principal,
    tenant: str,
    name: str,
    revision: str,
    folder: str,
    recursive: bool,
) -> list[dict[str, Any]]:
    """What lies in a folder (`""`, or a path with a slash at its end)."""
    artifact = _find(session, principal, tenant, name, revision)
    inside = [file for file in list_files(session, artifact.id) if file.path.startswith(folder)]
    if not inside:
        raise HubNotFound("The repository has no such folder.", "EntryNotFound", artifact.commit)
    return [*_folders(inside, folder, recursive=recursive), *_files(inside, folder, recursive=recursive)]


def _folders(inside: Sequence[ArtifactFile], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    below = {file.path[: file.path.rindex("/")] for file in inside if "/" in file.path[len(folder) :]}
    if not recursive:
        below = {folder + path[len(folder) :].partition("/")[0] for path in below}
    return [
        {"type": "directory", "path": path, "oid": "0" * COMMIT_DIGITS, "size": 0} for path in sorted(below)
    ]


def _files(inside: Sequence[ArtifactFile], folder: str, *, recursive: bool) -> list[dict[str, Any]]:
    return [
        {
            "type": "file",
            "path": file.path,
            "size": file.size,
            "oid": _git_id(file),
            "lfs": {"oid": file.sha256, **_large_file(file)},
        }
        for file in inside
        if recursive or "/" not in file.path[len(folder) :]
    ]


def _git_id(file: ArtifactFile) -> str:
    """Something as long as git's id of a file; there is no git here."""
    return file.sha256[:COMMIT_DIGITS]


def _large_file(file: ArtifactFile) -> dict[str, Any]:
    return {"sha256": file.sha256, "size": file.size, "pointerSize": _POINTER_BYTES}
