"""Which texts are looked at together: all, by duplicates, by group, and by both."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.science.studies.differences import Numbers

# More would make a study's result a download.
MOST_STUDIED_LEVELS: Final = 200
UNKNOWN: Final = -1

Codes = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StudiedTexts:
    """The same texts under several language models.

    Attributes:
        names: of the groups.
        groups: the place of each text's group among these, or UNKNOWN [texts].
        duplicates: known insertions, or UNKNOWN [texts].
        n_tokens: under the first model [texts].
        nl: in nats per token, NaN where a text could not be scored [texts, models].
        strict: 1 for recited, 0 for not, NaN for what cannot be told [texts, models].
    """

    names: list[str]
    groups: Codes
    duplicates: Codes
    n_tokens: Codes
    nl: Numbers
    strict: Numbers


@dataclass(frozen=True, slots=True)
class Level:
    """Texts that are looked at together, by their places [n]; None narrows nothing."""

    group: str | None
    duplicates: int | None
    places: Codes


def levels_of(texts: StudiedTexts) -> list[Level]:
    """All texts, then by duplicates, by group, and by both; kinds that MOST_STUDIED_LEVELS has room for."""
    found: list[Level] = []
    for kind in (_all, _by_duplicates, _by_group, _by_both):
        room = MOST_STUDIED_LEVELS - len(found)
        some = list(islice(kind(texts), room + 1))
        if len(some) > room:
            break
        found += some
    return found


def _all(texts: StudiedTexts) -> Iterator[Level]:
    yield Level(None, None, np.arange(len(texts.nl)))


def _by_duplicates(texts: StudiedTexts) -> Iterator[Level]:
    for duplicates, places in _split(texts.duplicates):
        yield Level(None, duplicates, places)


def _by_group(texts: StudiedTexts) -> Iterator[Level]:
    for code, places in _split(texts.groups):
        yield Level(texts.names[code], None, places)


def _by_both(texts: StudiedTexts) -> Iterator[Level]:
    for code, places in _split(texts.groups):
        for duplicates, some in _split(texts.duplicates[places]):
            yield Level(texts.names[code], duplicates, places[some])


def _split(codes: Codes) -> Iterator[tuple[int, Codes]]:
    """The places of each known code, the lowest first."""
    order = np.argsort(codes, kind="stable")
    values, first = np.unique(codes[order], return_index=True)
    for value, places in zip(values.tolist(), np.split(order, first[1:]), strict=True):
        if value != UNKNOWN:
            yield value, places
