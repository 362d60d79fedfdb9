"""`every-eval-ever`: aggregate and per-sample records of that schema, version 0.3.0 (arXiv 2606.14516).

The schema has one aggregate a language model, and beside it a file of samples. A document is therefore an
archive, with the layout of the schema's data store: `data/memaudit/DEVELOPER/MODEL/UUID.json` and
`UUID_samples.jsonl`.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from uuid import UUID

import orjson

from app.audits.schemas import AuditOut
from app.contracts.results.calibration import Verdict
from app.contracts.texts import TextSetRole
from app.evidence.format import EvidenceFormat
from app.evidence.measurements import CONFIDENCE, Measurement, measurements
from app.evidence.record import EvidenceRecord, RecordedModel, RecordedRow, RecordedTextSet
from app.evidence.texts_of_rows import judgement_of, numbers_of, prompt_and_target
from app.evidence.zip_archive import ZipStream

_Json: TypeAlias = dict[str, Any]
_SCHEMA: Final = "0.3.0"
_COLLECTION: Final = "memaudit"
_NOT_PORTABLE: Final = re.compile(r"[^A-Za-z0-9._-]+")
# What is better when it is higher; of everything else less means less memorized, or less harm done.
_HIGHER_IS_BETTER: Final = ("ndcg", "items.", "task_accuracy")
# Lines that are written together.
_PIECE_BYTES: Final = 2**16


def render(record: EvidenceRecord) -> Iterator[bytes]:
    """The archive, a piece at a time: memory does not grow with the texts."""
    archive = ZipStream(record.finished_at)
    for model in {model.id: model for model in record.models}.values():
        audits = [each.resource for each in record.principal_audits if each.resource.model == model.id]
        if audits:
            document = _Document(record, model, tuple(audits))
            samples = _Samples()
            # The aggregate names the digest of the samples, so that these come first.
            yield from archive.file(document.samples_path, samples.read(document))
            yield from archive.file(document.path, [orjson.dumps(document.aggregate(samples))])
    yield archive.end()


class _Samples:
    """Counts and digests lines while they go by."""

    def __init__(self) -> None:
        self.rows = 0
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self, document: "_Document") -> Iterator[bytes]:
        held: list[bytes] = []
        size = 0
        for sample in document.samples():
            held.append(orjson.dumps(sample, option=orjson.OPT_APPEND_NEWLINE))
            self.rows += 1
            size += len(held[-1])
            if size >= _PIECE_BYTES:
                yield self._piece(held)
                size = 0
        yield self._piece(held)

    def _piece(self, held: list[bytes]) -> bytes:
        piece = b"".join(held)
        held.clear()
        self._digest.update(piece)
        return piece


@dataclass(frozen=True, slots=True)
class _Document:
    """What is said of one language model."""

    record: EvidenceRecord
    model: RecordedModel
    audits: tuple[AuditOut, ...]

    @property
    def model_id(self) -> str:
        """`developer/model`, of characters that any file system takes."""
        developer, _, name = self.model.name.rpartition("/")
        return f"{_portable(developer or self.model.source)}/{_portable(name)}"

    @property
    def evaluation_id(self) -> str:
        return f"{self.record.id}:{self.model.id}/{self.model_id}/{self._epoch}"

    @property
    def _epoch(self) -> str:
        return str(int(self.record.finished_at.timestamp()))

    @property
    def _stem(self) -> str:
        # The store's files are named by version 4: random bits, here those of a digest.
        digest = hashlib.sha256(f"{self.record.id}/{self.model.id}".encode()).digest()
        return f"data/{_COLLECTION}/{self.model_id}/{UUID(bytes=digest[:16], version=4)}"

    @property
    def path(self) -> str:
        return f"{self._stem}.json"

    @property
    def samples_path(self) -> str:
        return f"{self._stem}_samples.jsonl"

    def aggregate(self, samples: _Samples) -> _Json:
        record = self.record
        results = [self._result(each) for each in measurements(record) if each.model == self.model.id]
        return {
            "schema_version": _SCHEMA,
            "evaluation_id": self.evaluation_id,
            "evaluation_timestamp": record.finished_at.isoformat(),
            "retrieved_timestamp": self._epoch,
            "source_metadata": {
                "source_name": record.id,
                "source_type": "evaluation_run",
                "source_organization_name": "memaudit",
                "evaluator_relationship": "other",
                "additional_details": {
                    each.gate.id: f"{each.policy.name} version {each.policy.version}: {each.gate.outcome}"
                    for each in record.gates
                },
            },
            "eval_library": {"name": "memaudit", "version": record.software},
            "model_info": self._model_info(),
            "evaluation_results": results,
            "detailed_evaluation_results": {
                "format": "jsonl",
                "file_path": self.samples_path,
                "hash_algorithm": "sha256",
                "checksum": samples.sha256,
                "total_rows": samples.rows,
                "additional_details": {
                    "texts_not_scored": str(
                        sum(each.summary.errors for each in self.audits if each.summary is not None)
                    ),
                    "texts": "full" if record.texts else "redacted",
                },
            },
        }

    def _model_info(self) -> _Json:
        model = self.model
        known = {
            "memaudit_id": model.id,
            "role": model.role.value,
            "label": model.label,
            "source": model.source,
            "revision": model.revision,
            "digest_sha256": model.digest,
            "base_model": model.base_model,
            "architecture": model.architecture,
            "dtype": model.dtype,
        }
        return {
            "name": model.name,
            "id": self.model_id,
            "developer": self.model_id.partition("/")[0],
            "additional_details": {
                # The service runs the model itself, and does not know who else has the weights.
                "deployment_type": "self_deployed",
                "model_availability": "unknown",
                **{name: value for name, value in known.items() if value is not None},
            },
        }

    def _result(self, measured: Measurement) -> _Json:
        text_set = self._text_set(measured.text_set)
        least, most = measured.within
        of = {"slice": measured.slice, "against": measured.against, "audit": measured.audit}
        return {
            "evaluation_result_id": _result_id(
                measured.text_set, measured.name, measured.slice, measured.against
            ),
            "evaluation_name": f"{measured.name} ({measured.slice})",
            "source_data": {
                "dataset_name": text_set.name,
                "source_type": "other",
                "additional_details": {
                    "memaudit_id": text_set.id,
                    "role": text_set.role,
                    "hmac_sha256": text_set.hmac_sha256,
                    "texts": str(text_set.texts),
                },
            },
            "metric_config": {
                "evaluation_description": measured.description,
                "metric_id": f"memaudit.{measured.name}",
                "metric_name": measured.name,
                **({"metric_unit": measured.unit} if measured.unit else {}),
                "lower_is_better": _lower_is_better(measured, text_set),
                "score_type": "continuous",
                "min_score": "-Infinity" if least is None else least,
                "max_score": "Infinity" if most is None else most,
            },
            "score_details": {
                "score": measured.value,
                "details": {name: value for name, value in of.items() if value is not None},
                "uncertainty": _uncertainty(measured),
            },
        }

    def _text_set(self, id_: str) -> RecordedTextSet:
        return next(each for each in self.record.text_sets if each.id == id_)

    def samples(self) -> Iterator[_Json]:
        """A sample for each text and each number that is true or false of it, and one for its `nl`."""
        for audit in self.audits:
            for row in self.record.rows(audit.id):
                if row.score.nl is not None:
                    yield from self._of_row(audit, row, row.score.nl)

    def _of_row(self, audit: AuditOut, row: RecordedRow, nl: float) -> Iterator[_Json]:
        numbers = numbers_of(row.score)
        prompt, target = prompt_and_target(audit, row)
        shared: _Json = {
            "schema_version": _SCHEMA,
            "evaluation_id": self.evaluation_id,
            "model_id": self.model_id,
            "sample_id": row.score.text_id,
            "interaction_type": "single_turn",
            "input": {"raw": prompt, "reference": target},
            # Scores follow from the probabilities of the text itself; nothing that was generated is kept.
            "output": {"raw": []},
            "answer_attribution": [],
        }
        facts = {
            "group": row.score.group,
            "duplicates": row.score.duplicates,
            "member": row.member,
            "n_tokens": row.score.n_tokens,
            **numbers,
            **judgement_of(row.score),
        }
        yield {
            **shared,
            **_named(audit, "nl"),
            "evaluation": {"score": nl, "is_correct": row.score.verdict == Verdict.MEMORIZED},
            "metadata": {name: _words(value) for name, value in facts.items() if value is not None},
        }
        for name, value in numbers.items():
            if isinstance(value, bool):
                yield {
                    **shared,
                    **_named(audit, name),
                    "evaluation": {"score": float(value), "is_correct": value},
                }


def _named(audit: AuditOut, name: str) -> _Json:
    """Which aggregate result a sample counts for: that over all texts."""
    whole = "all texts"
    return {
        "evaluation_name": f"{name} ({whole})",
        "evaluation_result_id": _result_id(audit.text_set, name, whole, None),
    }


def _result_id(text_set: str, name: str, which: str, against: str | None) -> str:
    return "/".join((text_set, name, which, *([f"against {against}"] if against else [])))


def _lower_is_better(measured: Measurement, text_set: RecordedTextSet) -> bool:
    if measured.name == "perplexity":
        # Of clean text it is a loss of utility; of audited text a low one is a sign of memory.
        return text_set.role == TextSetRole.CLEAN
    return not measured.name.startswith(_HIGHER_IS_BETTER)


def _uncertainty(measured: Measurement) -> _Json:
    found: _Json = {} if measured.n is None else {"num_samples": measured.n}
    if measured.low is not None and measured.high is not None:
        found["confidence_interval"] = {
            "lower": measured.low,
            "upper": measured.high,
            "confidence_level": CONFIDENCE,
        }
    return found


def _words(value: object) -> str:
    """A value as the schema wants all metadata: a string."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _portable(part: str) -> str:
    """A name for a folder; `data` is the store's own."""
    found = _NOT_PORTABLE.sub("-", part).strip(".-") or "unnamed"
    return "data_" if found == "data" else found


FORMAT = EvidenceFormat(
    name="every-eval-ever",
    title="Every Eval Ever records",
    media_type="application/zip",
    suffix="every-eval-ever.zip",
    render=render,
)
