"""What the check of a comparison reads of the texts of a set."""

import pytest
from sqlalchemy.orm import Session, sessionmaker

from app.store.texts import TextRow
from tests.integration.rows import add_audit_rows, add_tenant
from workers.audits.shown import show_texts
from workers.science.calibration.comparison import MOST_CHARACTERS


class Cancelled(Exception):
    pass


def test_the_texts_at_some_places_are_shown_in_their_order_with_their_whole_lengths(
    sessions: sessionmaker[Session],
) -> None:
    texts = ["one", "two words", "word " * 1000, "four"]
    with sessions() as session:
        text_set_id = add_audit_rows(session, add_tenant(session), texts=len(texts)).text_set_id
        session.add_all(
            TextRow(text_set_id=text_set_id, ordinal=place, text_id=str(place), unsealed_text=text)
            for place, text in enumerate(texts)
        )
        session.flush()
        asked: list[int] = []
        shown = show_texts(session, text_set_id, [2, 0], lambda: asked.append(1))
        assert [(each.characters, each.words) for each in shown] == [(5000, 1000), (3, 1)]
        assert [each.beginning for each in shown] == [texts[2][:MOST_CHARACTERS], "one"]
        assert len(asked) == 2

        def cancel() -> None:
            raise Cancelled

        with pytest.raises(Cancelled):
            show_texts(session, text_set_id, [1], cancel)
