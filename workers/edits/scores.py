"""The scores of an edit's proof, on disk until they are committed."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from app.store.texts import ClearText
from workers.audits.rows import TextFacts
from workers.science.scoring.texts import TextScore


class ScoreFile:
    """Texts' facts and scores in order, one JSON line each: none of it is held in memory, none of it is text.

    Args:
        path: the file, which is made with the first scores. Whoever owns its directory removes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[TextFacts, TextScore]]:
        with self._path.open("rb") as file:
            for line in file:
                facts, score = orjson.loads(line)
                yield TextFacts(**facts), TextScore(**score)

    def append(self, scores: Iterable[tuple[ClearText, TextScore]]) -> None:
        """Add scores, which must be without token evidence. Numbers come back bit by bit."""
        with self._path.open("ab") as file:
            for text, score in scores:
                facts = TextFacts(text.ordinal, text.text_id, text.group, text.duplicates)
                file.write(orjson.dumps((facts, score), option=orjson.OPT_APPEND_NEWLINE))
                self._count += 1
