"""`inspect`: a log that `inspect view` opens and `inspect_ai.log.read_eval_log` reads.

A sample is a text. A scorer is a language model, so that a text has the numbers of all models of a study, or
those before and after an edit, beside each other.
"""

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from app.audits.schemas import AuditOut
from app.edits.schemas import EditOut
from app.evidence.cautions import cautions
from app.evidence.format import EvidenceFormat
from app.evidence.inspect_parts import Head, Samples, check_installed, write
from app.evidence.measurements import Measurement, measurements
from app.evidence.record import EvidenceRecord, RecordedAudit, RecordedGate, RecordedRow
from app.evidence.texts_of_rows import judgement_of, numbers_of, prompt_and_target

_Json: TypeAlias = dict[str, Any]
_VERSION: Final = 2  # of the format of logs
_EPOCH: Final = 1  # a text is scored once: scores are not random
_SAMPLES_AT_ONCE: Final = 100


def render(record: EvidenceRecord) -> Iterator[Head | Samples | bytes]:
    """The log, a piece at a time: memory does not grow with the texts.

    Raises:
        EvidenceFormatNotInstalled: `inspect_ai` is not there.
    """
    check_installed()
    return _log(record)


def _log(record: EvidenceRecord) -> Iterator[Head | Samples | bytes]:
    yield Head(_header(record))
    for place, samples in enumerate(_in_lots(_samples(record))):
        yield Samples(samples, first=place == 0)
    yield b"]}"


def _in_lots(samples: Iterator[_Json]) -> Iterator[list[_Json]]:
    held: list[_Json] = []
    for sample in samples:
        held.append(sample)
        if len(held) == _SAMPLES_AT_ONCE:
            yield held
            held = []
    if held:
        yield held


def _texts(record: EvidenceRecord) -> list[tuple[RecordedAudit, ...]]:
    """The audits of the same texts, by the part that these texts have in the work."""
    if not isinstance(record.work, EditOut):
        return [record.principal_audits]
    by_role: dict[str, list[RecordedAudit]] = {}
    for audit in record.principal_audits:
        by_role.setdefault(audit.label, []).append(audit)
    return [tuple(audits) for audits in by_role.values()]


def _scorer(record: EvidenceRecord, audit: RecordedAudit) -> str:
    """A language model's name among the scorers; in an edit, with the part of the texts that it scored."""
    return f"{audit.label}/{audit.role.value}" if isinstance(record.work, EditOut) else audit.label


def _header(record: EvidenceRecord) -> _Json:
    sets = [audits[0] for audits in _texts(record)]
    scorers = list(dict.fromkeys(_scorer(record, audit) for audit in record.principal_audits))
    total = sum(_count(each.resource) for each in sets)
    names = ", ".join(dict.fromkeys(text_set.name for text_set in record.text_sets))
    created = record.work.created_at.isoformat()
    started = record.work.started_at
    return {
        "version": _VERSION,
        "status": "success",
        "eval": {
            "created": created,
            "run_id": record.id,
            "eval_id": record.id,
            "task_id": record.id,
            "task": f"memaudit_{record.kind.value}",
            "dataset": {"name": names, "samples": total, "shuffled": False},
            # One that the work is about: an edit's result, a study's last.
            "model": f"memaudit/{_subject(record)}",
            "config": {"epochs": _EPOCH},
            "packages": {"memaudit": record.software},
            "metadata": _facts(record),
            "scorers": [{"name": name} for name in scorers],
        },
        "results": {
            "total_samples": total,
            "completed_samples": total - sum(_errors(each.resource) for each in sets),
            "scores": list(_scores(record)),
        },
        "stats": {
            "started_at": started.isoformat() if started else created,
            "completed_at": record.finished_at.isoformat(),
        },
    }


def _subject(record: EvidenceRecord) -> str:
    return record.principal_audits[-1].resource.model


def _count(audit: AuditOut) -> int:
    return audit.progress.total


def _errors(audit: AuditOut) -> int:
    return audit.summary.errors if audit.summary is not None else 0


def _facts(record: EvidenceRecord) -> _Json:
    return {
        "subject": record.id,
        "models": [
            {
                "label": model.label,
                "role": model.role.value,
                "id": model.id,
                "name": model.name,
                "revision": model.revision,
                "digest": model.digest,
            }
            for model in record.models
        ],
        "text_sets": [
            {
                "role": each.role,
                "id": each.id,
                "name": each.name,
                "hmac_sha256": each.hmac_sha256,
                "texts": each.texts,
            }
            for each in record.text_sets
        ],
        "gates": [_gate(each) for each in record.gates],
        "texts": "full" if record.texts else "redacted",
        "not_proved": list(cautions(record)),
    }


def _gate(recorded: RecordedGate) -> _Json:
    gate = recorded.gate
    return {
        "id": gate.id,
        "policy": gate.policy_name,
        "policy_version": gate.policy_version,
        "policy_sha256": gate.policy_sha256,
        "preregistered": gate.preregistered,
        "outcome": gate.outcome,
        "rules": [
            {"kind": each.rule.kind, "outcome": each.outcome, "statement": each.statement}
            for each in gate.rules
        ],
    }


def _scores(record: EvidenceRecord) -> Iterator[_Json]:
    """The numbers over all texts; those of groups and duplicates are too many for a viewer's head."""
    audits = {audit.resource.id: audit for audit in record.principal_audits}
    for measured in measurements(record):
        if measured.overall:
            audit = audits.get(measured.audit or "")
            yield _score(record, measured, audit)


def _score(record: EvidenceRecord, measured: Measurement, audit: RecordedAudit | None) -> _Json:
    values = {"value": measured.value, "low": measured.low, "high": measured.high}
    return {
        "name": measured.name,
        "scorer": "comparison" if audit is None else _scorer(record, audit),
        "metrics": {
            name: {"name": name, "value": value} for name, value in values.items() if value is not None
        },
        "metadata": {
            "n": measured.n,
            "unit": measured.unit,
            "model": measured.model,
            "against": measured.against,
            "text_set": measured.text_set,
            "description": measured.description,
        },
    }


def _samples(record: EvidenceRecord) -> Iterator[_Json]:
    for audits in _texts(record):
        for rows in zip(*(record.rows(audit.resource.id) for audit in audits), strict=True):
            yield _sample(record, audits, rows)


def _sample(
    record: EvidenceRecord, audits: tuple[RecordedAudit, ...], rows: tuple[RecordedRow, ...]
) -> _Json:
    row = rows[0]
    prompt, target = prompt_and_target(audits[0].resource, row)
    of_set = f"{audits[0].label}/" if isinstance(record.work, EditOut) else ""
    return {
        "id": f"{of_set}{row.score.text_id}",
        "epoch": _EPOCH,
        "input": prompt,
        "target": "".join(target),
        "messages": [],
        "output": {"model": "", "choices": []},
        "scores": {
            _scorer(record, audit): _score_of_text(each) for audit, each in zip(audits, rows, strict=True)
        },
        "metadata": {
            "text_set": audits[0].resource.text_set,
            "ordinal": row.score.ordinal,
            "group": row.score.group,
            "duplicates": row.score.duplicates,
            "member": row.member,
            "n_tokens": row.score.n_tokens,
        },
    }


def _score_of_text(row: RecordedRow) -> _Json:
    score: _Json = {"value": numbers_of(row.score), "metadata": judgement_of(row.score)}
    if row.score.error is not None:
        score["explanation"] = f"The text could not be scored: {row.score.error}."
    return score


def _stem(record: EvidenceRecord) -> str:
    """A name as Inspect gives to logs: without the time and the task `inspect view` does not list them."""
    return f"{record.finished_at:%Y-%m-%dT%H-%M-%S}_memaudit-{record.kind.value}_{record.id.replace('_', '')}"


FORMAT = EvidenceFormat(
    name="inspect",
    title="Inspect log",
    media_type="application/json",
    suffix="json",
    stem=_stem,
    render=render,
    finish=write,
)
