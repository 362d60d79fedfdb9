"""A small Hugging Face hub on loopback: language models and data sets, their commits, their files."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "acme/tiny"
DATA_COMMIT = "d" * 40


@dataclass
class Repository:
    """A directory of files for each commit, and which commit each branch names."""

    commits: Mapping[str, Path]
    branches: Mapping[str, str]

    def commit_of(self, revision: str) -> str | None:
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


class Hub(ThreadingHTTPServer):
    """Serves repositories by the paths of their files: those of data sets begin with `datasets/`.

    `refusals` are HTTP statuses with which revisions are refused.
    """

    def __init__(self, repositories: Mapping[str, Repository], port: int, refusals: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", port), HubRequest)
        self.repositories = repositories
        self.refusals = refusals


class HubRequest(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, with_body: bool) -> None:
        status, body, headers = self._find(self.path.partition("?")[0].strip("/"))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _find(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        for name, repository in self.server.repositories.items():
            api = f"api/{name}" if name.startswith("datasets/") else f"api/models/{name}"
            if path.startswith(prefix := f"{api}/revision/"):
                return self._revision(name, repository, path.removeprefix(prefix))
            if path.startswith(prefix := f"{api}/tree/"):
                return self._tree(repository, path.removeprefix(prefix))
            if path.startswith(prefix := f"{name}/resolve/"):
                return self._file(repository, *path.removeprefix(prefix).split("/", 1))
        return 404, b"{}", {"X-Error-Code": "RepoNotFound"}

    def _files(self, repository: Repository, revision: str) -> list[Path]:
        commit = repository.commit_of(revision)
        return sorted(repository.commits[commit].iterdir()) if commit else []

    def _revision(
        self, name: str, repository: Repository, revision: str
    ) -> tuple[int, bytes, dict[str, str]]:
        if revision in self.server.refusals:
            return self.server.refusals[revision], b"{}", {}
        siblings = [{"rfilename": file.name} for file in self._files(repository, revision)]
        if not siblings:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        identifier = name.removeprefix("datasets/")
        body = {"id": identifier, "sha": repository.commit_of(revision), "siblings": siblings}
        return 200, json.dumps(body).encode(), {}

    def _tree(self, repository: Repository, revision: str) -> tuple[int, bytes, dict[str, str]]:
        files = [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": sha1(file)}
            for file in self._files(repository, revision)
        ]
        return 200, json.dumps(files).encode(), {}

    def _file(self, repository: Repository, revision: str, name: str) -> tuple[int, bytes, dict[str, str]]:
        for file in self._files(repository, revision):
            if file.name == name:
                commit = repository.commit_of(revision)
                return 200, file.read_bytes(), {"ETag": f'"{sha1(file)}"', "X-Repo-Commit": str(commit)}
        return 404, b"", {"X-Error-Code": "EntryNotFound"}


def sha1(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()


@contextmanager
def hub(
    commits: dict[str, Path],
    branches: dict[str, str],
    port: int = 0,
    refusals: dict[str, int] | None = None,
    data_sets: Mapping[str, Path] | None = None,
) -> Iterator[str]:
    """Run a hub with `REPOSITORY` on a port, or on a free one; the mappings may be changed meanwhile.

    `data_sets` are directories of files, by the name of the data set. Each has one commit, `DATA_COMMIT`.

    Yields:
        The endpoint's URL.
    """
    repositories = {REPOSITORY: Repository(commits, branches)}
    for name, directory in (data_sets or {}).items():
        repositories[f"datasets/{name}"] = Repository({DATA_COMMIT: directory}, {"main": DATA_COMMIT})
    with Hub(repositories, port, refusals if refusals is not None else {}) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
