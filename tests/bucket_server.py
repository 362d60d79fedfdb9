"""A bucket on loopback that speaks enough of S3 for obstore: objects, ranges, parts, deletion."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class Bucket(ThreadingHTTPServer):
    """The objects by path.

    `refusal` is an S3 error code with which every write is refused, `part_seconds` how long each part takes.
    With `forgetful` parts are read and dropped.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BucketRequest)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.refusal: str | None = None
        self.part_seconds = 0.0
        self.forgetful = False

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which S3 clients find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "nowhere-1",
            "AWS_ACCESS_KEY_ID": "somebody",
            "AWS_SECRET_ACCESS_KEY": "something",
        }


class BucketRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_PUT(self) -> None:
        path, query = self._target()
        body = self._body()
        if self.server.refusal is not None:
            self._answer(400, f"<Error><Code>{self.server.refusal}</Code></Error>".encode())
        elif "uploadId" in query:
            time.sleep(self.server.part_seconds)
            self.server.parts[query["uploadId"][0]][int(query["partNumber"][0])] = body
            self._answer(200, headers={"ETag": '"part"'})
        else:
            self.server.objects[path] = body
            self._answer(200, headers={"ETag": '"whole"'})

    def do_POST(self) -> None:
        path, query = self._target()
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "delete" in query:
            names = re.findall(r"<Key>([^<]+)</Key>", body.decode())
            for name in names:
                self.server.objects.pop(f"{path.rstrip('/')}/{name}", None)
            deleted = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
            self._answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())
        elif "uploads" in query:
            upload = f"upload-{len(self.server.parts)}"
            self.server.parts[upload] = {}
            name = "InitiateMultipartUploadResult"
            self._answer(200, f"<{name}><UploadId>{upload}</UploadId></{name}>".encode())
        else:
            parts = self.server.parts.pop(query["uploadId"][0])
            self.server.objects[path] = b"".join(parts[number] for number in sorted(parts))
            name = "CompleteMultipartUploadResult"
            self._answer(200, f'<{name}><ETag>"whole"</ETag></{name}>'.encode())

    def do_GET(self) -> None:
        content = self.server.objects.get(self._target()[0])
        if content is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        headers = {"ETag": '"whole"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        if wanted is None:
            self._answer(200, content, headers)
        elif (start := int(wanted[1])) >= len(content):
            self._answer(416, b"<Error><Code>InvalidRange</Code></Error>")
        else:
            part = content[start : int(wanted[2]) + 1]
            headers["Content-Range"] = f"bytes {start}-{start + len(part) - 1}/{len(content)}"
            self._answer(206, part, headers)

    def do_DELETE(self) -> None:
        path, query = self._target()
        if "uploadId" in query:
            self.server.parts.pop(query["uploadId"][0])
        else:
            self.server.objects.pop(path, None)
        self._answer(204)

    def _body(self) -> bytes:
        left = int(self.headers["Content-Length"])
        if not self.server.forgetful:
            return self.rfile.read(left)
        while left > 0:
            left -= len(self.rfile.read(min(left, 65_536)))
        return b""

    def _target(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def bucket() -> Iterator[Bucket]:
    """Run a bucket server; any bucket's name will do."""
    with Bucket() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
