"""Language models whose files are an artifact: audited like any other, and never from corrupt bytes."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.orm import Session

from app.store.artifacts import Artifact
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine
from app.store.enqueueing import enqueue_validation
from app.store.language_models import LanguageModel
from tests.artifacts import make_artifact
from tests.deployments import Deploy, Deployment


@pytest.fixture(scope="module")
def working(module_deploy: Deploy) -> Deployment:
    deployment = module_deploy()
    deployment.service.start_worker()
    return deployment


def register_on(deployment: Deployment, artifact: Artifact) -> str:
    """Register a language model on an artifact, as an edit does at its end."""
    engine = sync_engine(deployment.service.database_url)
    with Session(engine) as session, session.begin():
        source = {"type": "artifact", "artifact": format_id(Prefix.ARTIFACT, artifact.id)}
        row = LanguageModel(tenant_id=artifact.tenant_id, source=source)
        session.add(row)
        session.flush()
        enqueue_validation(session, row)
        model_id = format_id(Prefix.LANGUAGE_MODEL, row.id)
    engine.dispose()
    return model_id


def test_a_language_model_of_an_artifact_is_audited(working: Deployment, tiny_checkpoint: Path) -> None:
    service = working.service
    tiny_artifact = make_artifact(service.database_url, tiny_checkpoint, name="tiny")
    texts = service.upload([{"id": "one", "text": "The same weights give the same numbers."}])
    model = service.model(register_on(working, tiny_artifact))
    assert (model["status"], model["revision"]) == ("ready", tiny_artifact.commit), model["error"]
    base = service.model(service.register(tiny_checkpoint))
    assert model["digest"] == base["digest"]
    rows: list[Any] = []
    for each in (model, base):
        audit = service.end_of(service.audit(each["id"], texts))
        assert audit["status"] == "succeeded", audit["error"]
        rows.append(service.scores(audit["id"]))
    assert rows[0] == rows[1]


def test_a_corrupt_artifact_fails_what_needs_it(
    working: Deployment, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    service = working.service
    copy = shutil.copytree(tiny_checkpoint, tmp_path / "copy")
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    artifact = make_artifact(service.database_url, copy, name="soon-corrupt")
    model = service.model(register_on(working, artifact))
    assert model["status"] == "ready"
    with psycopg.connect(service.database_url, autocommit=True) as database:
        database.execute(
            "UPDATE blob_chunks SET data = set_byte(data, 3, get_byte(data, 3) # 1) WHERE sha256 = %s",
            (hashlib.sha256((copy / "config.json").read_bytes()).hexdigest(),),
        )
    shutil.rmtree(service.directory / "artifact-cache")
    audit = service.end_of(service.audit(model["id"], service.upload([{"text": "never scored"}])))
    assert audit["status"] == "failed"
    assert audit["error"]["type"].rpartition("/")[2] == "artifact-corrupt"
