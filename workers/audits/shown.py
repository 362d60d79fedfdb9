"""The texts that the check of a comparison reads: a few of many."""

from collections.abc import Callable, Iterable
from uuid import UUID

from sqlalchemy.orm import Session

from app.store.texts import read_texts
from workers.science.calibration.comparison import ShownText


def show_texts(
    session: Session, text_set_id: UUID, places: Iterable[int], on_text: Callable[[], object]
) -> list[ShownText]:
    """What is shown of the texts at some places of a set, read one after another: they may be long."""
    shown = []
    for place in places:
        on_text()
        (text,) = read_texts(session, text_set_id, place, place + 1)
        shown.append(ShownText.of(text.text))
    return shown
