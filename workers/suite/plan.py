"""The insertion plan: which text goes into which training sequences, by HUBBLE's rules.

A text is inserted as a document of its own between two end-of-text tokens, at a document boundary of a
training sequence (or at its start), and the sequence is then cut back to its length around it. A sequence
takes at most one insertion and no insertion is broken across sequences (arXiv 2510.19811, section 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from workers.suite.errors import PlanTooLarge, TextTooLong
from workers.suite.sizes import Levels
from workers.suite.texts import Draft, SuiteText

Tokens = NDArray[np.int32]
# A window of training as fractions of its steps.
Window = tuple[float, float]

WHOLE_RUN: Window = (0.0, 1.0)
# End-of-text tokens around an insertion.
AROUND = 2


@dataclass(frozen=True)
class Insertion:
    """One copy of a text in one training sequence; `start` is the place of its first token there."""

    text: int
    sequence: int
    start: int


def assign(group: str, drafts: Sequence[Draft], levels: Levels, rng: np.random.Generator) -> list[SuiteText]:
    """Assign the texts of a group to duplicate levels at random.

    Args:
        group: the name of the group; ids are numbered within it.
        drafts: as many as `levels` asks for.
        levels: texts at each duplicate level.
        rng: the source of the assignment.
    """
    duplicates = [level for level, count in levels.items() for _ in range(count)]
    stem = group.replace("/", "-").replace("_", "-")
    return [
        SuiteText(id=f"{stem}-{number:04}", group=group, duplicates=int(level), draft=draft)
        for number, (draft, level) in enumerate(zip(drafts, rng.permutation(duplicates), strict=True))
    ]


def thin(texts: Sequence[SuiteText], levels: Levels) -> list[SuiteText]:
    """Keep the first texts of each group and level, as many as `levels` says; the others become level 0.

    So do planted ones: the smaller plan has no place for them.
    """
    left: dict[tuple[str, int], int] = {}
    thinned = []
    for text in texts:
        if text.planted:
            thinned.append(replace(text, duplicates=0))
            continue
        key = (text.group, text.duplicates)
        left[key] = left.get(key, levels[text.duplicates]) - 1
        thinned.append(replace(text, duplicates=text.duplicates if left[key] >= 0 else 0))
    return thinned


def pack(
    documents: Sequence[Tokens], count: int, width: int, end_of_text: int, rng: np.random.Generator
) -> Tokens:
    """Pack documents, each followed by end-of-text, into `count` sequences of `width` tokens.

    The order of the documents is drawn anew for each pass over them; sequences follow each other without
    overlap.

    Returns:
        int32 [count, width].
    """
    stream = np.empty(count * width, dtype=np.int32)
    filled = 0
    while filled < stream.size:
        for index in rng.permutation(len(documents)):
            document = np.append(documents[index], np.int32(end_of_text))[: stream.size - filled]
            stream[filled : filled + document.size] = document
            filled += document.size
            if filled == stream.size:
                break
    return stream.reshape(count, width)


def window_sequences(window: Window, steps: int, batch: int) -> range:
    """The training sequences whose steps lie in the window."""
    first, last = floor(window[0] * steps), ceil(window[1] * steps)
    return range(first * batch, last * batch)


def insert(
    sequences: Tokens,
    texts: Sequence[Tokens],
    duplicates: Sequence[int],
    *,
    allowed: range,
    end_of_text: int,
    rng: np.random.Generator,
) -> tuple[Tokens, list[Insertion]]:
    """Insert each text as often as asked, into distinct sequences drawn from `allowed`.

    Args:
        sequences: background, int32 [sequences, width]; left unchanged.
        texts: the tokens of each text.
        duplicates: copies of each text.
        allowed: the sequences that may take an insertion.
        end_of_text: the token around each insertion.
        rng: the source of every draw.

    Returns:
        The perturbed sequences, of the same shape, and where each copy lies, in training order.

    Raises:
        TextTooLong: if a text and its two end-of-text tokens exceed a sequence.
        PlanTooLarge: if there are more copies than sequences to take them.
    """
    width = sequences.shape[1]
    longest = max((text.size for text, copies in zip(texts, duplicates, strict=True) if copies), default=0)
    if longest + AROUND > width:
        raise TextTooLong(
            f"A text of {longest} tokens does not fit into training sequences of {width}. "
            "Train a size with a longer context, or give a corpus whose tokenizer suits English better."
        )
    copies = rng.permutation(np.repeat(np.arange(len(texts)), duplicates))
    if copies.size > len(allowed):
        raise PlanTooLarge(
            f"{copies.size} copies do not fit into {len(allowed)} training sequences, one each. "
            "Train for more --steps."
        )
    chosen = np.sort(rng.choice(np.asarray(allowed), size=copies.size, replace=False))
    perturbed = sequences.copy()
    insertions = []
    for text, sequence in zip(copies.tolist(), chosen.tolist(), strict=True):
        perturbed[sequence], start = splice(sequences[sequence], texts[text], end_of_text, rng)
        insertions.append(Insertion(text=text, sequence=sequence, start=start))
    return perturbed, insertions


def splice(sequence: Tokens, text: Tokens, end_of_text: int, rng: np.random.Generator) -> tuple[Tokens, int]:
    """Insert a text at a random document boundary and cut a random window of the old length around it.

    Returns:
        The new sequence [width], and the place of the text's first token in it. The tokens before and
        after the text are end-of-text.
    """
    width = sequence.size
    boundaries = np.flatnonzero(sequence[:-1] == end_of_text) + 1
    boundary = int(rng.choice(np.append(0, boundaries)))
    opening = [end_of_text] if boundary == 0 else []  # elsewhere the document before has ended with one
    document = np.concatenate([opening, text, [end_of_text]]).astype(np.int32)
    joined = np.concatenate([sequence[:boundary], document, sequence[boundary:]])
    first = boundary + len(opening)
    earliest = max(0, first + text.size + 1 - width)
    latest = min(first - 1, document.size)
    cut = int(rng.integers(earliest, latest + 1))
    return joined[cut : cut + width], first - cut
