"""A client that does what a careful one does: it repeats what was not answered, with the same key."""

import random
import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from tests.chaos.record import Record
from tests.live_service import TERMINAL

JSON = dict[str, Any]
# How long a request is repeated, and work followed, before it counts as lost.
ANSWER_SECONDS: Final = 120.0
END_SECONDS: Final = 300.0
_TOLD_TO_REPEAT: Final = {408, 425, 429, 503}
_SAME_AT_ONCE: Final = 3
_PAUSE_SECONDS: Final = 0.2


class Unanswered(Exception):
    """No process answered a request for as long as a client would ask."""


class Refused(Exception):
    """An answer that says no."""

    def __init__(self, answer: httpx.Response) -> None:
        self.status = answer.status_code
        is_document = answer.headers.get("Content-Type", "").startswith("application/problem+json")
        self.problem = str(answer.json()["type"]).rpartition("/")[2] if is_document else "no problem document"
        super().__init__(f"{answer.request.method} {answer.url.path}: {self.status} {self.problem}")


@dataclass
class Ledger:
    """Every id that a 201 or 202 has promised, by what it is."""

    promised: dict[str, set[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, resource: JSON) -> None:
        with self._lock:
            self.promised.setdefault(resource["object"], set()).add(resource["id"])

    def ids(self, noun: str) -> set[str]:
        with self._lock:
            return set(self.promised.get(noun, ()))


class Client:
    """One client of all API processes; not to be shared by threads."""

    def __init__(self, urls: Sequence[str], key: str, record: Record, ledger: Ledger, seed: str) -> None:
        self.random = random.Random(seed)
        self.record = record
        self._ledger = ledger
        self._urls = urls
        self._http = httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=30)

    def close(self) -> None:
        self._http.close()

    def create(self, path: str, body: JSON) -> JSON:
        """Request work under one key, at times from several threads at once, until it is answered."""
        key = uuid.uuid4().hex
        times = _SAME_AT_ONCE if self.random.random() < 0.3 else 1
        with ThreadPoolExecutor(times) as pool:
            answers = list(pool.map(lambda _: self._create(path, body, key), range(times)))
        if len({answer["id"] for answer in answers}) != 1:
            self.record.violate(f"POST {path} made several resources under one Idempotency-Key")
        for answer in answers:
            self._ledger.note(answer)
        return answers[0]

    def _create(self, path: str, body: JSON, key: str) -> JSON:
        answer = self.send("POST", path, json=body, headers={"Idempotency-Key": key})
        return dict(answer.json())

    def get(self, path: str, **params: Any) -> JSON:
        return dict(self.send("GET", path, params=params).json())

    def pages(self, path: str) -> list[JSON]:
        """All rows of a list."""
        rows: list[JSON] = []
        params: JSON = {"limit": 100}
        while True:
            page = self.get(path, **params)
            rows += page["data"]
            if not page["has_more"]:
                return rows
            params["cursor"] = page["next_cursor"]

    def end_of(self, path: str) -> JSON:
        """Work once it has ended; what it says meanwhile must be possible."""
        deadline = time.monotonic() + END_SECONDS
        while time.monotonic() < deadline:
            work = self.get(path, wait=5)
            progress = work.get("progress") or {"done": 0, "total": 0}
            if progress["done"] > progress["total"]:
                self.record.violate(f"GET {path}: progress {progress['done']} of {progress['total']}")
            if work["status"] in TERMINAL | {"ready", "rejected"}:
                return work
        raise Unanswered(f"{path} was {work['status']} after {END_SECONDS:.0f} s: {work.get('waiting')}")

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to one process after another until one answers.

        Raises:
            Refused: an answer that another try would get too.
            Unanswered: nobody answers.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        said = ""
        while time.monotonic() < deadline:
            url = self.random.choice(self._urls)
            try:
                answer = self._http.request(method, url + path, **options)
            except httpx.TransportError as error:
                said = type(error).__name__
                self.record.count("requests that broke off, and were repeated")
            else:
                self.record.count("requests answered")
                if answer.is_success:
                    return answer
                refused = Refused(answer)
                said = str(refused)
                if refused.status not in _TOLD_TO_REPEAT and refused.problem != "idempotency-in-flight":
                    if answer.is_server_error:
                        self.record.violate(f"a defect was answered: {refused}")
                    raise refused
                self.record.count(f"requests told to repeat: {refused.problem}")
            time.sleep(_PAUSE_SECONDS)
        raise Unanswered(f"{method} {path}: {said}")
