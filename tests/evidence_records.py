"""Small records of finished work, made by hand: an audit with controls, a pair of models, an edit."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from app.audits.schemas import AuditOut, Progress
from app.audits.score_schemas import ScoreOut
from app.contracts.audits import AuditOptions
from app.contracts.policies.probabilistic_extraction import ProbabilisticExtraction
from app.contracts.policies.rate import Rate
from app.contracts.results.gates import RuleOutcome, overall
from app.contracts.results.observations import Observation
from app.edits.schemas import EditOut
from app.evidence.controls import read_control_mappings
from app.evidence.format import EvidenceFormat
from app.evidence.record import (
    AuditRole,
    EvidenceRecord,
    ModelRole,
    RecordedAudit,
    RecordedFile,
    RecordedGate,
    RecordedModel,
    RecordedRow,
    RecordedTextSet,
    SubjectKind,
    Work,
)
from app.gates.schemas import GateOut
from app.policies.preregistration import Preregistration
from app.policies.schemas import PolicyOut
from app.store.texts import ClearText
from app.studies.schemas import StudyOut

SECRET: Final = "Sesame opens the cave of the forty."  # the beginning of every text
_ENDED: Final = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
_TIMES: Final[dict[str, Any]] = {
    "created_at": _ENDED,
    "started_at": _ENDED,
    "finished_at": _ENDED,
    "metadata": {},
    "error": None,
}
TEXTS: Final = 4


def public_id(prefix: str, number: int) -> str:
    return f"{prefix}_{number:032x}"


def _mean(mean: float, n: int = TEXTS) -> dict[str, Any]:
    return {"n": n, "mean": mean, "low": mean - 0.25, "high": mean + 0.25}


def _share(count: int, n: int = TEXTS) -> dict[str, Any]:
    return {"n": n, "count": count, "share": count / n, "low": 0.0, "high": 1.0}


def _level(group: str | None, duplicates: int, nl: float) -> dict[str, Any]:
    return {"group": group, "duplicates": duplicates, "nl": _mean(nl, 2), "strict": _share(1, 2)} | {
        "loose": _share(1, 2)
    }


def _summary(texts: int) -> dict[str, Any]:
    area = {"n_members": 2, "n_others": 2, "auc": 0.75, "low": 0.5, "high": 0.875}
    separation = {"auc": area, "at_fpr": []}
    return {
        "texts": texts,
        "errors": 1,
        "tokens": 40 * texts,
        "log_likelihood": -80.0 * texts,
        "perplexity": 7.5,
        "nl": _mean(-2.0),
        "nl_byte": _mean(-0.5),
        "strict": _share(1),
        "loose": _share(2),
        "similarity": _mean(0.5),
        "levels": [_level("canary", 0, -3.0), _level("canary", 8, -1.0)],
        "dose_response": [_level(None, 0, -3.0), _level(None, 8, -1.0)],
        "gain": None,
        "membership": {"n_members": 2, "n_others": 2, "loss": separation},
        "calibration": None,
    }


def audit_out(number: int, model: int, text_set: int, texts: int = TEXTS) -> AuditOut:
    return AuditOut.model_validate(
        _TIMES
        | {
            "id": public_id("aud", number),
            "status": "succeeded",
            "model": public_id("mdl", model),
            "text_set": public_id("txs", text_set),
            "metrics": ["nl", "extraction", "membership"],
            "options": AuditOptions(),
            "progress": Progress(done=texts, total=texts),
            "digests": {"model": "b" * 64, "text_set": f"{text_set:064x}"},
            "summary": _summary(texts),
        }
    )


def _model(number: int, role: ModelRole, label: str, **facts: Any) -> RecordedModel:
    known: dict[str, Any] = {
        "source": "hub",
        "name": f"acme/tiny-{number}",
        "revision": f"{number:040x}",
        "base_model": None,
    }
    return RecordedModel(
        role=role,
        label=label,
        id=public_id("mdl", number),
        digest="b" * 64,
        architecture="LlamaForCausalLM",
        parameters=1000,
        context_length=128,
        vocabulary_size=512,
        dtype="float32",
        files=(
            RecordedFile(path="config.json", sha256="c" * 64, size=None),
            RecordedFile(path="model.safetensors", sha256=f"{number:064x}", size=4096),
        ),
        **(known | facts),
    )


def _text_set(number: int, role: str) -> RecordedTextSet:
    return RecordedTextSet(
        role=role,
        id=public_id("txs", number),
        name=f"set {number}",
        hmac_sha256=f"{number:064x}",
        texts=TEXTS,
        bytes=400,
        group_counts={"canary": TEXTS},
        duplicate_counts={"0": 2, "8": 2},
        preset=None,
        revision=None,
        erased=False,
    )


class Rows:
    """Rows of any audit: one text in four cannot be scored, one is recited."""

    def __init__(self, texts: int, *, full: bool) -> None:
        self._texts = texts
        self._full = full

    def __call__(self, _audit_id: str) -> Iterator[RecordedRow]:
        for place in range(self._texts):
            yield RecordedRow(
                score=_score(place), member=place % 2 == 0, text=_clear(place) if self._full else None
            )


def _score(place: int) -> ScoreOut:
    scored = place % 4 != 3
    measured = {
        "n_windows": 1,
        "log_likelihood": -80.0,
        "nl": -2.0 - place,
        "nl_byte": -0.5,
        "perplexity": 7.5,
        "extraction": {
            "status": "ok",
            "prefix_tokens": 20,
            "suffix_tokens": 20,
            "strict": place % 4 == 0,
            "loose": place % 2 == 0,
            "similarity": 0.5,
        },
        "error": None,
    }
    nothing = dict.fromkeys(("log_likelihood", "nl", "nl_byte", "perplexity")) | {
        "n_windows": 0,
        "error": "no_tokens",
    }
    return ScoreOut.model_validate(
        {
            "text_id": f"text-{place}",
            "ordinal": place,
            "group": "canary",
            "duplicates": 8 * (place % 2),
            "n_tokens": 40 if scored else 0,
            "n_bytes": 160,
        }
        | (measured if scored else nothing)
    )


def _clear(place: int) -> ClearText:
    return ClearText(
        text=f"{SECRET} {place}", ordinal=place, text_id=f"text-{place}", prefix_chars=len(SECRET)
    )


def _record(
    kind: SubjectKind,
    work: Work,
    models: list[RecordedModel],
    text_sets: list[RecordedTextSet],
    audits: list[RecordedAudit],
    *,
    texts: int,
    full: bool,
) -> EvidenceRecord:
    return EvidenceRecord(
        kind=kind,
        id=work.id,
        resource=work,
        work=work,
        models=tuple(models),
        text_sets=tuple(text_sets),
        artifact=None,
        audits=tuple(audits),
        gates=(),
        controls=read_control_mappings(None),
        worst=(),
        texts=full,
        software="9.9.9",
        finished_at=_ENDED,
        rows=Rows(texts, full=full),
    )


def audit_record(texts: int = TEXTS, *, full: bool = False) -> EvidenceRecord:
    audit = audit_out(1, 1, 1, texts)
    return _record(
        SubjectKind.AUDIT,
        audit,
        [_model(1, ModelRole.AUDITED, "audited")],
        [_text_set(1, "audited")],
        [RecordedAudit(role=AuditRole.AUDITED, label="audited", resource=audit)],
        texts=texts,
        full=full,
    )


def study_record(*, full: bool = False) -> EvidenceRecord:
    labels = ("standard", "perturbed")
    audits = [audit_out(place, place, 1) for place in (1, 2)]
    difference = {"group": None, "duplicates": 8, "difference": _mean(1.5), "excess": _mean(1.0)}
    study = StudyOut.model_validate(
        _TIMES
        | {
            "id": public_id("std", 1),
            "name": "pair",
            "kind": "pair",
            "status": "succeeded",
            "text_set": public_id("txs", 1),
            "control_text_set": None,
            "models": [
                {"model": audit.model, "label": label, "step": None, "audit": audit.id, "control_audit": None}
                for audit, label in zip(audits, labels, strict=True)
            ],
            "metrics": ["nl", "extraction"],
            "options": AuditOptions(),
            "progress": {"done": 8, "total": 8},
            "text_set_hmac_sha256": f"{1:064x}",
            "result": {
                "kind": "pair",
                "models": [],
                "comparisons": [
                    {
                        "from_label": labels[0],
                        "to_label": labels[1],
                        "levels": [difference | {"transitions": None}],
                    }
                ],
                "curves": None,
                "changes": None,
            },
        }
    )
    return _record(
        SubjectKind.STUDY,
        study,
        [_model(place, ModelRole.STUDIED, label) for place, label in enumerate(labels, 1)],
        [_text_set(1, "audited")],
        [
            RecordedAudit(role=AuditRole.STUDIED, label=label, resource=audit)
            for audit, label in zip(audits, labels, strict=True)
        ],
        texts=TEXTS,
        full=full,
    )


def _measured(before: AuditOut, after: AuditOut) -> dict[str, Any]:
    return {
        "texts": TEXTS,
        "nl": {"before": _mean(-2.0), "after": _mean(-3.0), "change": _mean(-1.0)},
        "strict": {"before": _share(1), "after": _share(0)},
        "loose": {"before": _share(1), "after": _share(0)},
        "perplexity": {"before": 7.5, "after": 8.0},
        "audits": {"before": before.id, "after": after.id},
    }


def _evaluation(audits: dict[str, tuple[AuditOut, AuditOut]]) -> dict[str, Any]:
    kept = {"n": TEXTS, "value": 0.01, "low": 0.0, "high": 0.02, "outcome": "pass", "passed": True}
    broken = {"n": TEXTS, "value": 0.5, "low": 0.4, "high": 0.6, "outcome": "fail", "passed": False}
    open_ = {"n": 1, "value": None, "low": None, "high": None, "outcome": "inconclusive", "passed": None}
    return {
        "sets": {role: _measured(*pair) for role, pair in audits.items()},
        "perplexity_increase": _mean(0.0625),
        "ndcg": _mean(0.5),
        **proof_facts(),
        "items": {"facts": {"n": 4, "before": 0.75, "after": 0.5}},
        "tasks": [
            {
                "task": "sums",
                "n": 4,
                "before": {"n": 4, "count": 3, "share": 0.75, "low": 0.25, "high": 0.99},
                "after": {"n": 4, "count": 2, "share": 0.5, "low": 0.1, "high": 0.9},
                "change": {"n": 4, "lost": 1, "gained": 0, "difference": -0.25, "low": -0.7, "high": 0.3},
                "kept": {"n": 4, "mean": 0.667, "low": 0.2, "high": 1.5},
            }
        ],
        "verdict": {
            "outcome": "fail",
            "passed": False,
            "checks": [
                kept | {"name": "max_perplexity_increase", "limit": 0.1},
                broken | {"name": "max_strict:memorized", "limit": 0.05},
                open_ | {"name": "max_strict:unseen", "limit": 0.05},
            ],
        },
    }


def proof_facts() -> dict[str, Any]:
    """What `stress: "full"` and a reference model add to an evaluation."""
    change = {"n": TEXTS, "lost": 1, "gained": 0, "difference": -0.25, "low": -0.7, "high": 0.3}
    means = {"before": _mean(0.75), "after": _mean(0.5), "change": _mean(-0.25), "reference": _mean(0.375)}
    shares = {"before": _share(3), "after": _share(2), "change": change, "reference": _share(1)}
    held = dict.fromkeys(("extraction_strength", "exact_memorization", "log_p_z"), means)
    point = {"step": 0, "strict": {"shown": {"share": _share(1), "change": None}}}
    area = {"auc": 0.3, "low": 0.2, "high": 0.4, "n_members": TEXTS, "n_others": TEXTS}
    membership = {"before": area | {"auc": 0.9, "low": None, "high": None}, "after": area}
    membership |= {"change": _mean(-0.6), "reference": area | {"auc": 0.5}, "over_forgotten": True}
    return {
        "stress": {"int4": {"memorized": {"after": 0.5, "after_interval": _share(2), "change": change}}},
        "reference": {"model": public_id("mdl", 3), "digest": "c" * 64},
        "membership": {"memorized": {"loss": membership}},
        "proof": {
            "held": {"memorized": held | {"extractable": [shares | {"samples": 10}]}},
            "layers": {"memorized": [{"layer": 1, "log_likelihood": means, "right": means}]},
            "generated": {"memorized": {"exact": shares, "similarity": means}},
            "relearning": [{"model": "reference", "trained_on": "shown", "points": [point]}],
        },
    }


def edit_record(*, full: bool = False) -> EvidenceRecord:
    base, edited = public_id("mdl", 1), public_id("mdl", 2)
    audits = {
        "memorized": (audit_out(1, 1, 1), audit_out(2, 2, 1)),
        "clean": (audit_out(3, 1, 2), audit_out(4, 2, 2)),
    }
    sets = {"calibration": 2, "forget": 1, "memorized": 1, "clean": 2, "items": 3}
    edit = EditOut.model_validate(
        _TIMES
        | {
            "id": public_id("edt", 1),
            "status": "succeeded",
            "model": base,
            "method": "svd",
            "name": "forgetful",
            "text_sets": {role: public_id("txs", number) for role, number in sets.items()},
            "spec": {},
            "progress": {"done": 100, "total": 100, "unit": "percent", "stage": None},
            "receipt": _receipt(base),
            "evaluation": _evaluation(audits),
            "frontier": None,
            "artifact": public_id("art", 1),
            "edited_model": edited,
            "model_repo": "acme/forgetful",
        }
    )
    return _record(
        SubjectKind.EDIT,
        edit,
        [
            _model(1, ModelRole.BASE, "base"),
            _model(3, ModelRole.REFERENCE, "reference"),
            _model(2, ModelRole.EDITED, "edited", source="artifact", name="acme/forgetful", base_model=base),
        ],
        [_text_set(number, role) for role, number in sets.items()],
        [
            RecordedAudit(role=when, label=role, resource=audit)
            for role, pair in audits.items()
            for when, audit in zip((AuditRole.BEFORE, AuditRole.AFTER), pair, strict=True)
        ],
        texts=TEXTS,
        full=full,
    )


def _receipt(base: str) -> dict[str, Any]:
    return {
        "method": "svd",
        "base": {"model": base, "digest": "b" * 64, "revision": f"{1:040x}"},
        "lineage": [
            {
                "model": base,
                "source": "hub",
                "name": "acme/tiny-1",
                "revision": f"{1:040x}",
                "digest": "b" * 64,
            }
        ],
        "text_sets": {},
        "seed": 7,
        "dtype": "float32",
        "device": "cpu",
        "code": {"memaudit": "9.9.9", "torch": "2.13.0", "transformers": "5.23.0"},
        "wall_seconds": 1.0,
        "peak_memory_bytes": 1,
        "parameters": {"rank_ratio": {"gate": 0.5}},
        "matrices": [],
    }


def judged(record: EvidenceRecord) -> EvidenceRecord:
    """The record with a gate whose rules pass, fail and remain open."""
    rules = [
        Rate(kind="rate", metric="strict", at_most=0.5),
        ProbabilisticExtraction(kind="probabilistic_extraction"),
        Rate(kind="rate", metric="strict", at_most=0.001, groups="canary*"),
    ]
    seen = [
        Observation(value=0.0, n=100, count=0, low=0.0, high=0.0295, confidence=0.95),
        Observation(value=0.9, n=100, count=2),
        Observation(value=0.0, n=100, count=0, low=0.0, high=0.0295, confidence=0.95),
    ]
    deciding = [(), ("text-1", "text-2"), ()]
    outcomes = [RuleOutcome.of(*each) for each in zip(rules, seen, deciding, strict=True)]
    policy = PolicyOut.model_validate(
        {
            "id": public_id("pol", 1),
            "name": "no recital\nanywhere",
            "version": 2,
            "sha256": "d" * 64,
            "description": None,
            "template": None,
            "rules": [rule.model_dump() for rule in rules],
            "metadata": {},
            "created_at": _ENDED,
        }
    )
    gate = GateOut.model_validate(
        _TIMES
        | {
            "id": public_id("gat", 1),
            "status": "succeeded",
            "policy": policy.id,
            "policy_name": policy.name,
            "policy_version": policy.version,
            "policy_sha256": policy.sha256,
            "subject": {"kind": record.kind, "id": record.id},
            "outcome": overall(each.outcome for each in outcomes),
            "rules": [each.model_dump() for each in outcomes],
            "preregistered": True,
            "progress": {"done": 3, "total": 3},
        }
    )
    registered = Preregistration(
        policy=policy.id,
        policy_sha256=policy.sha256,
        text_set_hmac_sha256="e" * 64,
        gate=gate.id,
        registered_at=_ENDED,
    )
    recorded = RecordedGate(gate=gate, policy=policy, preregistration=registered)
    return replace(record, gates=(recorded,))


def call(function: Callable[..., bytes], *arguments: Any) -> bytes:
    """What is run apart in the service, in this process."""
    return function(*arguments)


def document_of(
    made: EvidenceFormat, record: EvidenceRecord, run_apart: Callable[..., bytes] = call
) -> bytes:
    """The whole document."""
    document = made.render(record)
    pieces = document if isinstance(document, Iterator) else [document]
    return b"".join(
        piece if isinstance(piece, bytes) or made.finish is None else run_apart(made.finish, piece)
        for piece in pieces
    )
