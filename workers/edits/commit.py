"""The finishing transaction of an edit: its artifact, edited language model, audits and end, together."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.contracts.audits import AuditSpec
from app.contracts.sources import ArtifactSource
from app.contracts.texts import TextSetRole
from app.store.artifacts import StoredFile, add_artifact
from app.store.audits import Audit
from app.store.core.identifiers import Prefix, format_id, new_id
from app.store.edits import Edit
from app.store.jobs.leases import LeaseLost
from app.store.jobs.owners import AUDIT, EDIT, LANGUAGE_MODEL
from app.store.language_models import LanguageModel, LanguageModelStatus
from app.store.lifecycle import end
from app.store.operations import OperationStatus
from app.store.scores import copy_scores
from app.store.taking import take_active
from workers.audits.rows import score_row
from workers.edits.comparison import AFTER, BEFORE
from workers.edits.evaluation import Readings, Scored
from workers.edits.inputs import EditInputs
from workers.science.models.description import CheckpointDescription
from workers.science.scoring.prefix_token import PrefixToken

JSONObject = dict[str, Any]


@dataclass(frozen=True)
class EditResult:
    """Everything that an edit commits; `prefix_token` is what stood before the texts of its proof."""

    receipt: JSONObject
    evaluation: JSONObject
    frontier: list[JSONObject] | None
    prefix_token: PrefixToken
    before: Readings
    after: Readings
    files: list[StoredFile]
    description: CheckpointDescription


def commit(session: Session, inputs: EditInputs, result: EditResult) -> int:
    """Write the result of an edit and end it.

    Returns:
        How many jobs were enqueued: none.

    Raises:
        LeaseLost: the edit has ended otherwise.
        ArtifactNameTaken: another artifact has taken the name meanwhile.
        BlobMissing: a file is not in the store any more.
    """
    take_active(session, Edit, inputs.edit_id)
    artifact = add_artifact(session, inputs.tenant_id, inputs.name, result.files)
    source = ArtifactSource(type="artifact", artifact=format_id(Prefix.ARTIFACT, artifact.id))
    description = result.description
    edited = LanguageModel(
        id=new_id(),
        tenant_id=inputs.tenant_id,
        source=source.model_dump(),
        base_model_id=inputs.base.id,
        revision=artifact.commit,
        digest=description.digest,
        files=description.files,
        architecture=description.architecture,
        parameter_count=description.parameter_count,
        context_length=description.context_length,
        vocabulary_size=description.vocabulary_size,
        tokenizer=asdict(description.tokenizer),
        dimensions=None if description.dimensions is None else asdict(description.dimensions),
        dtype=description.dtype,
    )
    session.add(edited)
    session.flush()
    end(session, LANGUAGE_MODEL, edited.id, LanguageModelStatus.READY)
    audits: dict[str, dict[str, str]] = {}
    for when, model, readings in ((BEFORE, inputs.base, result.before), (AFTER, edited, result.after)):
        for role, scored in readings.sets.items():
            audit = _add_audit(session, inputs, model, scored, result.prefix_token)
            audits.setdefault(role, {})[when] = format_id(Prefix.AUDIT, audit.id)
    sets = {role: measured | {"audits": audits[role]} for role, measured in result.evaluation["sets"].items()}
    findings = {
        "receipt": result.receipt,
        "evaluation": result.evaluation | {"sets": sets},
        "frontier": None if result.frontier is None else {"points": result.frontier},
        "artifact_id": artifact.id,
        "edited_model_id": edited.id,
    }
    if not end(session, EDIT, inputs.edit_id, OperationStatus.SUCCEEDED, findings=findings):
        raise LeaseLost
    return 0


def _add_audit(
    session: Session, inputs: EditInputs, model: LanguageModel, scored: Scored, prefix_token: PrefixToken
) -> Audit:
    """An audit that has succeeded already, with a row for every text."""
    used = inputs.text_sets[scored.role]
    spec = AuditSpec(
        metrics=["nl"] if scored.role is TextSetRole.CLEAN else ["nl", "extraction"],
        options=inputs.audit_options,
    )
    audit = Audit(
        id=new_id(),
        tenant_id=inputs.tenant_id,
        language_model_id=model.id,
        text_set_id=used.text_set_id,
        status=OperationStatus.RUNNING,
        spec=spec.model_dump(),
        texts_total=len(scored.rows),
        texts_done=len(scored.rows),
        language_model_digest=model.digest,
        text_set_hmac_sha256=used.hmac_sha256,
        prefix_token=asdict(prefix_token),
        metadata_={"edit": format_id(Prefix.EDIT, inputs.edit_id), "role": str(scored.role)},
        started_at=session.scalar(select(func.clock_timestamp())),
    )
    session.add(audit)
    session.flush()
    copy_scores(session, (score_row(audit.id, *pair) for pair in scored.rows))
    end(session, AUDIT, audit.id, OperationStatus.SUCCEEDED, findings={"summary": scored.summary})
    return audit
