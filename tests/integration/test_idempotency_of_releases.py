"""A key that is repeated after an upgrade gives the first answer, although there are new options by then."""

import hashlib
import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import select, update
from sqlalchemy.orm import Session, sessionmaker

from app.contracts.tenants import Quotas
from app.edits.schemas import EditCreate
from app.errors import IdempotencyMismatch
from app.http.idempotency import answer_once
from app.store.core.identifiers import new_id
from app.store.idempotency import IdempotencyKey
from app.store.tenants import Principal
from tests.integration.rows import add_tenant


class Options(BaseModel):
    top_k: int = 40


class Request(BaseModel):
    text_set: str
    options: Options = Options()


class NewOptions(Options):
    special_tokens: str = "control"


class NewRequest(BaseModel):
    text_set: str
    options: NewOptions = NewOptions()
    reference: str | None = None


class Answer(BaseModel):
    number: int


BODIES: list[dict[str, Any]] = [{"text_set": "txs_1"}, {"text_set": "txs_1", "options": {"top_k": 7}}]


@pytest.fixture
def ask(sessions: sessionmaker[Session]) -> Callable[[BaseModel], int]:
    """Ask with one and the same key; the number of the answer."""
    with sessions.begin() as session:
        tenant_id: UUID = add_tenant(session)
    principal = Principal(
        tenant_id=tenant_id, tenant_name="acme", key_id=new_id(), scopes=frozenset(), quotas=Quotas()
    )
    made: list[Answer] = []

    def create() -> Answer:
        made.append(Answer(number=len(made)))
        return made[-1]

    def ask(request: BaseModel) -> int:
        with sessions.begin() as session:
            return answer_once(session, principal, "k", "toy", request, Answer, create).number

    return ask


@pytest.mark.parametrize("body", BODIES)
def test_a_new_option_with_a_default_is_the_same_request(
    ask: Callable[[BaseModel], int], body: dict[str, Any]
) -> None:
    assert ask(Request.model_validate(body)) == 0
    assert ask(NewRequest.model_validate(body)) == 0
    changed = body | {"options": {"top_k": 8, "special_tokens": "text"}}
    with pytest.raises(IdempotencyMismatch):
        ask(NewRequest.model_validate(changed))


@pytest.mark.parametrize("body", BODIES)
def test_a_key_of_the_previous_release_is_known(
    ask: Callable[[BaseModel], int], sessions: sessionmaker[Session], body: dict[str, Any]
) -> None:
    """It wrote every option down, be it given or not."""
    request = Request.model_validate(body)
    assert ask(request) == 0
    written = f"toy\n{request.model_dump_json()}"
    with sessions.begin() as session:
        session.execute(
            update(IdempotencyKey).values(fingerprint=hashlib.sha256(written.encode()).hexdigest())
        )
        assert session.scalars(select(IdempotencyKey.key)).all() == ["k"]
    assert ask(request) == 0


# A request of K-FAC, with every option that release 0.1 had, in its order.
EDIT: dict[str, Any] = {
    "method": "kfac",
    "layers": None,
    "projections": None,
    "keep_mass": 0.7,
    "labels": "sampled",
    "calibration_tokens": 20000000,
    "block_tokens": 512,
    "rank_ratio": {
        "gate": 0.5,
        "up": 0.005,
        "down": 0.005,
        "q": None,
        "k": None,
        "v": None,
        "qkv": None,
        "o": None,
    },
    "balanced_subnet": {"ratio": 0.0015, "epochs": 5, "learning_rate": 0.3, "loss_weight": 0.7},
    "sweep": None,
    "constraint": {"max_perplexity_increase": 0.1},
    "evaluation": {
        "memorized_text_set": None,
        "unseen_text_set": None,
        "control_text_set": None,
        "clean_text_set": "txs_22222222222222222222222222222222",
        "items_text_set": None,
        "prefix_tokens": 64,
        "suffix_tokens": 48,
        "stress": False,
        "limits": {"max_strict": None, "max_perplexity_increase": None, "min_ndcg": None},
    },
    "seed": 0,
    "dtype": "float32",
    "model": "mdl_00000000000000000000000000000000",
    "name": "n",
    "calibration_text_set": "txs_11111111111111111111111111111111",
    "forget_text_set": None,
    "metadata": {},
}


def test_a_key_of_an_edit_of_the_previous_release_is_known(
    ask: Callable[[BaseModel], int], sessions: sessionmaker[Session]
) -> None:
    """Text sets to retain and recovery came later."""
    asked = {name: EDIT[name] for name in ("method", "keep_mass", "model", "name", "calibration_text_set")}
    request = EditCreate.model_validate(
        asked | {"evaluation": {"clean_text_set": EDIT["evaluation"]["clean_text_set"]}}
    )
    assert ask(request) == 0
    written = json.dumps(EDIT, separators=(",", ":"))
    with sessions.begin() as session:
        session.execute(
            update(IdempotencyKey).values(fingerprint=hashlib.sha256(f"toy\n{written}".encode()).hexdigest())
        )
    assert ask(request) == 0
    with pytest.raises(IdempotencyMismatch):
        ask(request.model_copy(update={"keep_mass": 0.8}))
