"""How much of a text's suffix a language model still holds, beyond whether it recites all of it.

Sources: Tirumala et al., arXiv 2205.10770, section 3 (exact memorization); Wang et al., arXiv 2406.09179,
section 3 (extraction strength, after Carlini et al., arXiv 2012.07805); Hayes et al., arXiv 2410.19482 (p_z).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from workers.science.models.loading import LanguageModel
from workers.science.scoring.greedy import end_token_ids
from workers.science.scoring.scorer import score_texts
from workers.science.scoring.texts import ScoringOptions, TextInput, TextScore

_MEASURED: Final = frozenset({"extraction", "p_z", "membership"})

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Holding:
    """What a model holds of a text; None where the text is too short for a suffix, or cannot be scored.

    Attributes:
        strict: whether greedy decoding recites the suffix.
        exact_memorization: see `exact_memorization`.
        extraction_strength: see `extraction_strength`.
        log_p_z: log-probability that one sample of the client's decoding is the suffix; None also where none
            ever is.
        n_50: samples with which the suffix appears with probability 0.5; None also where no number is enough.
        membership: the scores of `membership` that need no other model, of the whole text; empty if it
            cannot be scored.
    """

    strict: bool | None = None
    exact_memorization: float | None = None
    extraction_strength: float | None = None
    log_p_z: float | None = None
    n_50: int | None = None
    membership: dict[str, float] | None = None


def exact_memorization(chosen: Flags) -> float:
    """The share of a suffix' tokens that are the greedy choice after the true tokens before them, in [0, 1].

    Args:
        chosen: bool [L], L at least 1.
    """
    return float(chosen.mean())


def extraction_strength(chosen: Flags, ends: Flags) -> float:
    """1 less the share of a suffix that has to be given until greedy decoding recites the rest, in [0, 1].

    0 where even its last token is not recited, 1 where the prefix alone is enough: just then it is recited
    strictly. As up to a mistake greedy decoding sees the text itself, its choices are the teacher-forced
    ones. Decoding stops after an end token, so that one before the last place must be given.

    Args:
        chosen: bool [L], where the true token is the greedy choice.
        ends: bool [L], where it is one after which generation stops.
    """
    given = np.flatnonzero(np.concatenate((~chosen[:-1] | ends[:-1], ~chosen[-1:])))
    return 1 - (int(given[-1]) + 1 if len(given) else 0) / len(chosen)


def holdings(
    language_model: LanguageModel, texts: Sequence[TextInput], options: ScoringOptions
) -> Iterator[Holding]:
    """What the model holds of each text, in order, from one forward pass.

    Raises:
        ScoreNotFinite: see `score_texts`.
    """
    asked = replace(options, metrics=_MEASURED, decode=False, token_evidence=True)
    end_tokens = list(end_token_ids(language_model))
    return (_holding(score, end_tokens) for score in score_texts(language_model, texts, asked))


def _holding(score: TextScore, end_tokens: list[int]) -> Holding:
    if score.error is not None:
        return Holding()
    scores: dict[str, Any] = score.metrics["membership"]
    membership = {name: scores[name] for name in ("loss", "zlib", "min_k", "min_k_pp")}
    extraction: dict[str, Any] = score.metrics["extraction"]
    if extraction["strict"] is None:
        return Holding(membership=membership)
    assert score.evidence is not None
    start = extraction["prefix_tokens"]
    suffix = slice(start, start + extraction["suffix_tokens"])
    chosen = score.evidence.matched[suffix]
    sampled: dict[str, Any] = score.metrics["p_z"]
    return Holding(
        strict=extraction["strict"],
        exact_memorization=exact_memorization(chosen),
        extraction_strength=extraction_strength(
            chosen, np.isin(score.evidence.token_ids[suffix], end_tokens)
        ),
        log_p_z=sampled["log_p_z"],
        n_50=sampled["n_50"],
        membership=membership,
    )
