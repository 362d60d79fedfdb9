"""`oscal`: OSCAL assessment results of NIST: a finding for each rule, an observation for a metric and group.

Results belong to an assessment plan and to controls of a catalogue. Here the plan is what was asked of the
service, and controls are the operator's mappings, marked as such: no framework has said that these numbers
show conformity.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final
from uuid import UUID, uuid5

import orjson

from app.evidence.cautions import cautions
from app.evidence.format import EvidenceFormat
from app.evidence.judged import Judged, Standard, standards
from app.evidence.measurements import Measurement, measurements
from app.evidence.record import EvidenceRecord

JSON = dict[str, Any]

_VERSION: Final = "1.1.3"
# Of the properties that OSCAL does not know.
_NAMESPACE: Final = "urn:memaudit:oscal"
# Of the identifiers below, so that the same work has the same ones in every document.
_IDENTIFIERS: Final = UUID("8a4f6a7e-3c0c-5f1e-9b58-0d6f0f0f5c11")
_MAPPING: Final = (
    "A mapping of the operator of this service. It says which control a rule bears on, not that the control "
    "is met, and the framework's authors have not confirmed it."
)


def render(record: EvidenceRecord) -> bytes:
    """The assessment results of a record."""
    return orjson.dumps(
        {
            "assessment-results": {
                "uuid": _identifier(record, "document"),
                "metadata": _metadata(record),
                "import-ap": {"href": f"#{_identifier(record, 'plan')}"},
                "results": [_result(record)],
                "back-matter": {"resources": list(_resources(record))},
            }
        },
        option=orjson.OPT_INDENT_2,
    )


def _identifier(record: EvidenceRecord, *parts: object) -> str:
    return str(uuid5(_IDENTIFIERS, "\n".join([record.id, *map(str, parts)])))


def _metadata(record: EvidenceRecord) -> JSON:
    return {
        "title": f"Memorization {record.kind} {record.id}",
        "last-modified": record.finished_at.isoformat(),
        "version": record.software,
        "oscal-version": _VERSION,
        "props": [_property("software", f"memaudit {record.software}")],
        "remarks": _MAPPING,
    }


def _result(record: EvidenceRecord) -> JSON:
    observations = list(_observations(record))
    findings = [
        _finding(record, standard, judged) for standard in standards(record) for judged in standard.judged
    ]
    began = record.work.started_at or record.finished_at
    return {
        "uuid": _identifier(record, "result"),
        "title": f"Memorization {record.kind} {record.id}",
        "description": "Measured numbers, and whether they keep the rules that they were judged by.",
        "start": began.isoformat(),
        "end": record.finished_at.isoformat(),
        "local-definitions": {"components": list(_components(record))},
        "reviewed-controls": _reviewed_controls(record),
        **_unless_empty("observations", observations),
        **_unless_empty("findings", findings),
        "remarks": " ".join(cautions(record)),
    }


def _components(record: EvidenceRecord) -> Iterator[JSON]:
    """The language models."""
    for model in record.models:
        yield {
            "uuid": _identifier(record, "model", model.role, model.label),
            "type": "software",
            "title": _line(model.name),
            "description": f"The language model {model.id}, in the role {model.role}.",
            "props": [
                _property("language-model", model.id),
                _property("role", model.role),
                *_properties(
                    {"label": model.label, "revision": model.revision, "digest-sha256": model.digest}
                ),
            ],
            "status": {"state": "operational"},
        }


def _reviewed_controls(record: EvidenceRecord) -> JSON:
    titles = record.controls.titles()
    rules = [judged.kind for standard in standards(record) for judged in standard.judged]
    wanted = chain.from_iterable(map(record.controls.of_rule, rules)) if rules else titles
    controls = list(dict.fromkeys(wanted)) or list(titles)
    return {
        "description": _MAPPING,
        "control-selections": [
            {
                "props": [_property("control", titles[each]) for each in controls],
                "include-controls": [{"control-id": each} for each in controls],
            }
        ],
    }


def _observations(record: EvidenceRecord) -> Iterator[JSON]:
    """One for each metric and group, with a piece of evidence for each number."""
    found: dict[tuple[str, str | None], list[Measurement]] = {}
    for measured in measurements(record):
        found.setdefault((measured.name, measured.group), []).append(measured)
    for (name, group), numbers in found.items():
        of_texts = "all texts" if group is None else f"the group {_line(group)}"
        yield {
            "uuid": _identifier(record, "observation", name, group),
            "title": f"{name} of {of_texts}",
            "description": numbers[0].description or name,
            "methods": ["TEST"],
            "types": ["memorization"],
            "relevant-evidence": [_number(measured) for measured in numbers],
            "collected": record.finished_at.isoformat(),
        }


def _number(measured: Measurement) -> JSON:
    interval = "" if measured.low is None else f" [{measured.low:.6g}, {measured.high:.6g}]"
    unit = "" if measured.unit is None else f" {measured.unit}"
    facts = {
        "value": measured.value,
        "low": measured.low,
        "high": measured.high,
        "texts": measured.n,
        "unit": measured.unit,
        "duplicates": measured.duplicates,
        "language-model": measured.model,
        "compared-with": measured.against,
        "audit": measured.audit,
        "text-set": measured.text_set,
    }
    return {
        "description": f"{measured.slice}: {measured.value:.6g}{interval}{unit}",
        "props": list(_properties(facts)),
    }


def _finding(record: EvidenceRecord, standard: Standard, judged: Judged) -> JSON:
    titles = record.controls.titles()
    controls = record.controls.of_rule(judged.kind) or list(titles)[:1]
    return {
        "uuid": _identifier(record, "finding", standard.ref, judged.identifier),
        "title": _line(f"{standard.name}, {judged.identifier}"),
        "description": judged.statement,
        "props": list(_properties(standard.facts | judged.observed)),
        "target": {
            "type": "objective-id",
            "target-id": controls[0],
            "props": [_property("mapped-control", each, remarks=titles[each]) for each in controls],
            "status": {
                "state": "satisfied" if judged.outcome == "pass" else "not-satisfied",
                # OSCAL knows no third state, and its reasons are pass, fail and other.
                "reason": "other" if judged.outcome == "inconclusive" else judged.outcome,
                "remarks": f"The outcome is {judged.outcome}. {_MAPPING}",
            },
        },
    }


def _resources(record: EvidenceRecord) -> Iterator[JSON]:
    """The plan, and what was measured, each by its digest."""
    yield {
        "uuid": _identifier(record, "plan"),
        "title": f"What was asked for: {record.kind} {record.id}",
        "description": "The request stands for an assessment plan; there is no other.",
        "props": [_property("resource", record.id)],
    }
    for texts in record.text_sets:
        yield {
            "uuid": _identifier(record, "text set", texts.role),
            "title": _line(texts.name),
            "description": f"The text set {texts.id}, in the role {texts.role}: {texts.texts} texts.",
            # OSCAL knows no keyed digests.
            "props": [_property("hmac-sha256", texts.hmac_sha256)],
            "rlinks": [{"href": f"/v1/text-sets/{texts.id}"}],
        }
    for model in record.models:
        if model.files:
            yield {
                "uuid": _identifier(record, "files", model.role, model.label),
                "title": _line(model.name),
                "description": f"The files of the language model {model.id}.",
                "rlinks": [_digested(file.path, file.sha256) for file in model.files],
            }


def _digested(href: str, sha256: str) -> JSON:
    return {"href": href, "hashes": [{"algorithm": "SHA-256", "value": sha256}]}


def _properties(facts: JSON) -> Iterable[JSON]:
    """A property for each fact that is known."""
    return (_property(name, value) for name, value in facts.items() if value is not None)


def _property(name: str, value: object, *, remarks: str | None = None) -> JSON:
    told = {"name": name, "ns": _NAMESPACE, "value": _line(str(value))}
    return told if remarks is None else told | {"remarks": remarks}


def _line(text: str) -> str:
    """A text as OSCAL takes it: on one line and not empty."""
    return " ".join(text.split()) or "-"


def _unless_empty(name: str, entries: list[JSON]) -> JSON:
    return {name: entries} if entries else {}


FORMAT = EvidenceFormat(
    name="oscal",
    title="OSCAL assessment results",
    media_type="application/json",
    suffix="oscal.json",
    render=render,
)
