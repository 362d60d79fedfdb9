"""Edits as tests ask for them: of a tiny model that recites, with text sets for every role."""

import time
from collections.abc import Sequence
from typing import Any

from tests.live_service import TERMINAL, LiveService, fresh_key

SPLIT = {"prefix_tokens": 16, "suffix_tokens": 8}
RECITED = 12


def upload_sets(service: LiveService, sentences: Sequence[str]) -> dict[str, str]:
    """Text sets by their role: two halves of what the model recites, and text that it never saw."""
    parts = {
        "seen": sentences[: RECITED // 2],
        "unseen": sentences[RECITED // 2 : RECITED],
        "control": sentences[100:110],
        "clean": sentences[200:220],
        "calibration": sentences[300:360],
    }
    return {name: service.upload([{"text": text} for text in texts]) for name, texts in parts.items()}


def kfac_request(model: str, sets: dict[str, str], name: str, **fields: Any) -> dict[str, Any]:
    """The body of a K-FAC edit of the first two layers."""
    evaluation = {
        "memorized_text_set": sets["seen"],
        "unseen_text_set": sets["unseen"],
        "control_text_set": sets["control"],
        "clean_text_set": sets["clean"],
        **SPLIT,
    }
    return {
        "model": model,
        "method": "kfac",
        "name": name,
        "layers": [0, 1],
        "calibration_text_set": sets["calibration"],
        "block_tokens": 64,
        "evaluation": evaluation,
        **fields,
    }


def request(service: LiveService, body: dict[str, Any]) -> dict[str, Any]:
    """Request an edit."""
    response = service.client.post("/v1/edits", json=body, headers=fresh_key())
    assert response.status_code == 202, response.text
    edit: dict[str, Any] = response.json()
    return edit


def end_of(service: LiveService, edit: dict[str, Any], seconds: float = 600) -> dict[str, Any]:
    """An edit once it has ended."""
    deadline = time.monotonic() + seconds
    while edit["status"] not in TERMINAL:
        assert time.monotonic() < deadline, (edit, service.logs()[-2000:])
        edit = service.client.get(f"/v1/edits/{edit['id']}", params={"wait": 5}).json()
    return edit


def succeeded(service: LiveService, body: dict[str, Any]) -> dict[str, Any]:
    """An edit that is requested and must succeed."""
    edit = end_of(service, request(service, body))
    assert edit["status"] == "succeeded", (edit["error"], service.logs()[-2000:])
    return edit
