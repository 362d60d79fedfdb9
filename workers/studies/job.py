"""Ending a study: its audits have succeeded; compare what they found."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from app.contracts.studies import StoredStudySpec
from app.store.audits import Audit
from app.store.companions import companions_of
from app.store.jobs.leases import Lease, LeaseLost
from app.store.jobs.owners import STUDY
from app.store.lifecycle import succeed_study
from app.store.scores import text_ids_at
from app.store.studies import Study, StudyRole
from app.store.texts import iterate_text_batches
from workers.audits.shown import show_texts
from workers.running.finishing import finish
from workers.running.lease_keeper import LeaseKeeper
from workers.running.runtime import Runtime
from workers.science.calibration.shared_texts import shared_places
from workers.science.studies.levels import StudiedTexts, levels_of
from workers.studies.changes import Controls, ShowTexts, change
from workers.studies.results import compared_places, comparison, curves, studied_model
from workers.studies.scores import read_studied_texts

JSONObject = dict[str, Any]
T = TypeVar("T")


def finish_study(runtime: Runtime, lease: Lease, keeper: LeaseKeeper) -> int:
    """Compare the language models of a study and end it.

    Raises:
        LeaseLost: the study was cancelled.
        ScoresMissing: a text has no row or more than one in an audit.
    """
    if lease.owner_kind != STUDY.kind:
        raise LeaseLost
    study_id = lease.owner_id
    with runtime.sessions() as session:
        result = _Comparing(session, session.get_one(Study, study_id), keeper).result()

    def write(session: Session) -> int:
        succeed_study(session, study_id, result)
        return 0

    return finish(runtime, lease, write)


class _Comparing:
    """A study under comparison."""

    def __init__(self, session: Session, study: Study, keeper: LeaseKeeper) -> None:
        self._session = session
        self._study = study
        self._keeper = keeper
        self._spec = StoredStudySpec.model_validate(study.spec)
        self._audits: dict[str, list[UUID]] = {}
        for each in companions_of(session, [study.id])[study.id]:
            self._audits.setdefault(each.role, []).append(each.audit_id)

    def result(self) -> JSONObject:
        """What the study found, as `app.contracts.results.studies.StudyResult` reads it."""
        models, kind = self._spec.models, self._spec.kind
        texts = self._texts(StudyRole.MODEL)
        levels = levels_of(texts)
        pairs = compared_places(len(models))
        return {
            "kind": kind,
            "models": [
                studied_model(model, texts, place, levels) for place, model in self._each(enumerate(models))
            ],
            "comparisons": [comparison(models, texts, pair, levels) for pair in self._each(pairs)],
            "curves": curves(models, texts, levels) if kind == "trajectory" else None,
            "changes": self._changes(texts, pairs) if kind == "release" else None,
        }

    def _each(self, items: Iterable[T]) -> Iterator[T]:
        """The items, with a look between them whether the job is still wanted."""
        for item in items:
            self._keeper.report(0)
            yield item

    def _changes(self, texts: StudiedTexts, pairs: Sequence[tuple[int, int]]) -> list[JSONObject]:
        controls = None
        if self._study.control_text_set_id is not None:
            compared = self._texts(StudyRole.CONTROL)
            shared = shared_places(
                self._all_texts(self._study.text_set_id), self._all_texts(self._study.control_text_set_id)
            )
            # Without numbers they take no part.
            compared.nl[shared] = np.nan
            controls = Controls(
                texts=compared,
                show_audited=self._showing(self._study.text_set_id),
                show_controls=self._showing(self._study.control_text_set_id),
                among_texts=len(shared),
                fdr=self._spec.options.fdr,
                seed=self._spec.options.seed,
            )
        return [
            change(self._spec.models, texts, pair, controls, self._name_texts) for pair in self._each(pairs)
        ]

    def _texts(self, role: str) -> StudiedTexts:
        audits = self._audits[role]
        texts_total = self._session.get_one(Audit, audits[0]).texts_total
        return read_studied_texts(self._session, audits, texts_total, lambda: self._keeper.report(0))

    def _showing(self, text_set_id: UUID) -> ShowTexts:
        return lambda places: show_texts(self._session, text_set_id, places, lambda: self._keeper.report(0))

    def _all_texts(self, text_set_id: UUID) -> Iterator[str]:
        for batch in iterate_text_batches(self._session, text_set_id):
            self._keeper.report(0)
            yield from batch

    def _name_texts(self, places: Sequence[int]) -> dict[int, str]:
        return text_ids_at(self._session, self._audits[StudyRole.MODEL][0], places)
