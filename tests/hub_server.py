"""A small Hugging Face hub on loopback: one repository, its commits, its files."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY = "acme/tiny"


class Hub(ThreadingHTTPServer):
    """Serves `REPOSITORY`: a directory of files for each commit, and which commit each branch names.

    `refusals` are HTTP statuses with which revisions are refused.
    """

    def __init__(
        self, commits: dict[str, Path], branches: dict[str, str], port: int, refusals: dict[str, int]
    ) -> None:
        super().__init__(("127.0.0.1", port), HubRequest)
        self.commits = commits
        self.branches = branches
        self.refusals = refusals

    def commit_of(self, revision: str) -> str | None:
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None


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
        if path.startswith(prefix := f"api/models/{REPOSITORY}/revision/"):
            return self._revision(path.removeprefix(prefix))
        if path.startswith(prefix := f"api/models/{REPOSITORY}/tree/"):
            return self._tree(path.removeprefix(prefix))
        if path.startswith(prefix := f"{REPOSITORY}/resolve/"):
            return self._file(*path.removeprefix(prefix).split("/", 1))
        return 404, b"{}", {"X-Error-Code": "RepoNotFound"}

    def _files(self, revision: str) -> list[Path]:
        commit = self.server.commit_of(revision)
        return sorted(self.server.commits[commit].iterdir()) if commit else []

    def _revision(self, revision: str) -> tuple[int, bytes, dict[str, str]]:
        if revision in self.server.refusals:
            return self.server.refusals[revision], b"{}", {}
        siblings = [{"rfilename": file.name} for file in self._files(revision)]
        if not siblings:
            return 404, b"{}", {"X-Error-Code": "RevisionNotFound"}
        body = {"id": REPOSITORY, "sha": self.server.commit_of(revision), "siblings": siblings}
        return 200, json.dumps(body).encode(), {}

    def _tree(self, revision: str) -> tuple[int, bytes, dict[str, str]]:
        files = [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": sha1(file)}
            for file in self._files(revision)
        ]
        return 200, json.dumps(files).encode(), {}

    def _file(self, revision: str, name: str) -> tuple[int, bytes, dict[str, str]]:
        for file in self._files(revision):
            if file.name == name:
                commit = self.server.commit_of(revision)
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
) -> Iterator[str]:
    """Run a hub on a port, or on a free one; the mappings may be changed meanwhile.

    Yields:
        The endpoint's URL.
    """
    with Hub(commits, branches, port, refusals if refusals is not None else {}) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
