"""The scores of a study's audits, side by side."""

from collections.abc import Callable, Sequence
from uuid import UUID

import numpy as np
from sqlalchemy.orm import Session

from app.errors import ScoresMissing
from app.store.scores import read_compared_facts
from workers.science.studies.levels import UNKNOWN, StudiedTexts


def read_studied_texts(
    session: Session, audit_ids: Sequence[UUID], texts_total: int, on_row: Callable[[], object]
) -> StudiedTexts:
    """The same texts under several language models: arrays of their numbers, no texts.

    Args:
        session: to read with.
        audit_ids: of audits of one text set, by language model.
        texts_total: how many texts it has.
        on_row: called at each row; may raise to stop.

    Raises:
        ScoresMissing: a text has no row or more than one.
    """
    shape = (texts_total, len(audit_ids))
    nl, strict = np.full(shape, np.nan), np.full(shape, np.nan)
    groups, duplicates = np.full(texts_total, UNKNOWN), np.full(texts_total, UNKNOWN)
    n_tokens = np.zeros(texts_total, dtype=np.int64)
    codes: dict[str, int] = {}
    for column, audit_id in enumerate(audit_ids):
        rows = 0
        for place, fact in enumerate(read_compared_facts(session, audit_id)):
            on_row()
            rows = place + 1
            if rows > texts_total:
                break
            if fact.nl is not None:
                nl[place, column] = fact.nl
            if fact.strict is not None:
                strict[place, column] = fact.strict
            if column == 0:
                n_tokens[place] = fact.n_tokens
                if fact.group is not None:
                    groups[place] = codes.setdefault(fact.group, len(codes))
                if fact.duplicates is not None:
                    duplicates[place] = fact.duplicates
        if rows != texts_total:
            raise ScoresMissing(f"{texts_total} texts have {rows} score rows.")
    return StudiedTexts(list(codes), groups, duplicates, n_tokens, nl, strict)
