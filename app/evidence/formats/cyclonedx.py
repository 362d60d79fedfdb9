"""`cyclonedx`: an ML-BOM of language models, their lineage, files and numbers (CycloneDX 1.6, ECMA-424)."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, TypeAlias
from urllib.parse import quote
from uuid import NAMESPACE_URL, uuid5

import orjson

from app.contracts.results.receipt_facts import Ancestor
from app.contracts.texts import TextSetRole
from app.edits.schemas import EditOut
from app.evidence.cautions import cautions
from app.evidence.declarations import declarations, definitions
from app.evidence.format import EvidenceFormat
from app.evidence.judged import standards
from app.evidence.measurements import CONFIDENCE, Measurement, measurements
from app.evidence.record import EvidenceRecord, ModelRole, RecordedFile, RecordedModel, RecordedTextSet

_Json: TypeAlias = dict[str, Any]
# What an edit reads to make new weights; the other sets of an edit only measure them.
_MADE_FROM: Final = frozenset({TextSetRole.CALIBRATION, TextSetRole.RETAIN, TextSetRole.FORGET})
_TEXT: Final = [{"format": "text"}]


def render(record: EvidenceRecord) -> bytes:
    """The bill of materials, in one piece: it has no part for each text."""
    models = list({model.id: model for model in record.models}.values())
    # What the work is about: the edited model of an edit, the last model of a study.
    subject = models[0] if record.models[0].role == ModelRole.AUDITED else models[-1]
    metrics = _metrics(record)
    components = {model.id: _language_model(record, model, metrics[model.id]) for model in models}
    judged = list(standards(record))
    return orjson.dumps(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": uuid5(NAMESPACE_URL, f"urn:memaudit:{record.id}").urn,
            "version": 1,
            "metadata": {
                "timestamp": record.finished_at.isoformat(),
                "tools": {
                    "components": [{"type": "application", "name": "memaudit", "version": record.software}]
                },
                "component": components.pop(subject.id),
                "properties": _properties(subject=record.id, subject_kind=record.kind.value),
            },
            "components": [*components.values(), *_text_sets(record.text_sets)],
            "dependencies": _dependencies(record, models),
            **({"declarations": declarations(judged, subject.id)} if judged else {}),
            **({"definitions": definitions(judged)} if judged else {}),
        }
    )


def _properties(**values: object) -> list[_Json]:
    """Properties in the namespace `memaudit`, of what is known."""
    return [
        {"name": f"memaudit:{name}", "value": str(value)}
        for name, value in values.items()
        if value is not None
    ]


def _hashes(sha256: str) -> list[_Json]:
    return [{"alg": "SHA-256", "content": sha256}]


def _language_model(record: EvidenceRecord, model: RecordedModel, metrics: list[_Json]) -> _Json:
    version = model.revision or model.digest
    found: _Json = {
        "type": "machine-learning-model",
        "bom-ref": model.id,
        "name": model.name,
        **({"version": version} if version else {}),
        **_purl(model.source, model.name, model.revision),
        "components": [_file(model, file) for file in model.files],
        "modelCard": _card(record, model, metrics),
        "properties": _properties(
            id=model.id,
            role=model.role.value,
            label=model.label,
            source=model.source,
            digest=model.digest,
            parameters=model.parameters,
            context_length=model.context_length,
            vocabulary_size=model.vocabulary_size,
            dtype=model.dtype,
        ),
    }
    pedigree = _pedigree(record, model)
    return found | {"pedigree": pedigree} if pedigree else found


def _purl(source: str, name: str, revision: str | None) -> _Json:
    """The package URL of a Hugging Face repository; nothing of other sources."""
    if source != "hub" or revision is None:
        return {}
    return {"purl": f"pkg:huggingface/{quote(name)}@{revision.lower()}"}


def _file(model: RecordedModel, file: RecordedFile) -> _Json:
    return {
        "type": "file",
        "bom-ref": f"{model.id}/{file.path}",
        "name": file.path,
        "hashes": _hashes(file.sha256),
        "properties": _properties(size=file.size),
    }


def _pedigree(record: EvidenceRecord, model: RecordedModel) -> _Json | None:
    """What a model was derived from, the nearest first; None if it is no edit."""
    if model.role == ModelRole.EDITED and isinstance(edit := record.work, EditOut) and edit.receipt:
        receipt = edit.receipt
        return {
            "ancestors": [_ancestor(each) for each in receipt.lineage],
            "notes": f"Edited by {edit.method} with seed {receipt.seed} in edit {edit.id}.",
        }
    if model.base_model is not None:
        return {"ancestors": [{"type": "machine-learning-model", "name": model.base_model}]}
    return None


def _ancestor(ancestor: Ancestor) -> _Json:
    version = ancestor.revision or ancestor.digest
    return {
        "type": "machine-learning-model",
        "name": ancestor.name,
        **({"version": version} if version else {}),
        **_purl(ancestor.source, ancestor.name, ancestor.revision),
        "properties": _properties(id=ancestor.model, source=ancestor.source, digest=ancestor.digest),
    }


def _card(record: EvidenceRecord, model: RecordedModel, metrics: list[_Json]) -> _Json:
    return {
        "modelParameters": {
            "task": "text-generation",
            **({"modelArchitecture": model.architecture} if model.architecture else {}),
            "datasets": [{"ref": id_} for id_ in dict.fromkeys(each.id for each in record.text_sets)],
            "inputs": _TEXT,
            "outputs": _TEXT,
        },
        "quantitativeAnalysis": {"performanceMetrics": metrics},
        "considerations": {
            "useCases": ["Audited for memorization of the texts named under datasets."],
            "technicalLimitations": list(cautions(record)),
        },
        "properties": _properties(confidence_level=CONFIDENCE),
    }


def _metrics(record: EvidenceRecord) -> dict[str, list[_Json]]:
    """The numbers by language model."""
    found: dict[str, list[_Json]] = defaultdict(list)
    for measurement in measurements(record):
        found[measurement.model].append(_metric(measurement))
    return found


def _metric(measured: Measurement) -> _Json:
    parts = [f"text_set={measured.text_set}", measured.slice]
    if measured.n is not None:
        parts.append(f"n={measured.n}")
    if measured.against is not None:
        parts.append(f"against={measured.against}")
    metric: _Json = {"type": measured.name, "value": str(measured.value), "slice": "; ".join(parts)}
    if measured.low is not None and measured.high is not None:
        metric["confidenceInterval"] = {
            "lowerBound": str(measured.low),
            "upperBound": str(measured.high),
        }
    return metric


def _text_sets(text_sets: Iterable[RecordedTextSet]) -> list[_Json]:
    """Each text set once, with all its roles: by keyed digest, for which there is no other place."""
    roles: dict[str, list[str]] = defaultdict(list)
    for each in text_sets:
        roles[each.id].append(each.role)
    return [
        {
            "type": "data",
            "bom-ref": each.id,
            "name": each.name,
            "version": each.hmac_sha256,
            "data": [{"type": "dataset", "name": each.name, "contents": {"properties": _counts(each)}}],
            "properties": _properties(
                id=each.id, roles=", ".join(roles[each.id]), hmac_sha256=each.hmac_sha256
            ),
        }
        for each in {each.id: each for each in text_sets}.values()
    ]


def _counts(text_set: RecordedTextSet) -> list[_Json]:
    return _properties(
        texts=text_set.texts,
        bytes=text_set.bytes,
        preset=text_set.preset,
        revision=text_set.revision,
        erased=str(text_set.erased).lower(),
    )


def _dependencies(record: EvidenceRecord, models: list[RecordedModel]) -> list[_Json]:
    """What was made from what: an edited model from its base and the texts that the method read."""
    made = []
    if isinstance(record.work, EditOut):
        used = {each.id for each in record.text_sets if each.role in _MADE_FROM}
        made = sorted({record.work.model, *used})
    refs = dict.fromkeys([model.id for model in models] + [each.id for each in record.text_sets])
    return [
        {"ref": ref, "dependsOn": made} if made and _is_edited(record, ref) else {"ref": ref} for ref in refs
    ]


def _is_edited(record: EvidenceRecord, ref: str) -> bool:
    return isinstance(record.work, EditOut) and record.work.edited_model == ref


FORMAT = EvidenceFormat(
    name="cyclonedx",
    title="CycloneDX ML-BOM",
    media_type="application/vnd.cyclonedx+json; version=1.6",
    suffix="cdx.json",
    render=render,
)
