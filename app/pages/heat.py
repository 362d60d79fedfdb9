"""The tokens of a text as they are coloured: by how likely the language model found each."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

from app.audits.score_schemas import ScoreOut, Token
from app.pages.figures import number, token_probability

# Where steps of the colour scale begin, in probability: memorized tokens lie close to 1.
STEPS: Final = (0.0, 0.01, 0.1, 0.5, 0.9, 0.99)
# A page shows so many tokens; a browser has trouble with many more.
MOST_TOKENS: Final = 2000
_UNKNOWN: Final = "hx"


@dataclass(frozen=True)
class Step:
    """A step of the scale, as the legend shows it."""

    shade: str
    label: str


@dataclass(frozen=True)
class HeatToken:
    """A token as a page shows it.

    Attributes:
        place: among the tokens of the text, from 1.
        text: what it adds to the text; empty for the first parts of a character of several tokens.
        shade: the class of its colour.
        first: whether it was the model's first choice.
        log_likelihood: in nats.
        rank: among all tokens, 1 for the likeliest.
        note: all of this in words.
    """

    place: int
    text: str
    shade: str
    first: bool
    log_likelihood: float | None
    rank: int | None
    note: str


@dataclass(frozen=True)
class Part:
    """A run of tokens with a role: the prompt, what is to be recited after it, and the rest."""

    role: str
    title: str
    note: str
    tokens: list[HeatToken]


def legend() -> list[Step]:
    """The steps of the scale from unlikely to certain, by probability and by log-likelihood."""
    steps = []
    for place, least in enumerate(STEPS):
        bound = f"p < {STEPS[1]:g}" if place == 0 else f"p ≥ {least:g}"
        likelihood = f"< {number(log(STEPS[1]))}" if place == 0 else f"≥ {number(log(least))}"
        steps.append(Step(f"h{place}", f"{bound} ({likelihood})"))
    return steps


def parts_of(tokens: Sequence[Token], score: ScoreOut | None, start: int, total: int) -> list[Part]:
    """The tokens from a place on, of so many in all, by the role that they have in an extraction."""
    shown = [_heat(place, token) for place, token in enumerate(tokens, start=start + 1)]
    extraction = getattr(score, "extraction", None)
    if extraction is None or not extraction.suffix_tokens:
        return [Part("whole", "Text", f"{total} tokens", shown)]
    begin, length = extraction.prefix_tokens, extraction.suffix_tokens
    matched = extraction.matched_tokens or 0
    recited = (
        f"all {length} tokens recited exactly"
        if extraction.strict
        else f"{matched} of {length} tokens recited before the first mistake"
    )
    parts = [
        Part("prefix", "Prefix", f"the prompt, {begin} tokens", _between(shown, 0, begin)),
        Part("suffix", "Suffix", recited, _between(shown, begin, begin + length)),
        Part("rest", "Rest", "no part of the extraction", _between(shown, begin + length, total)),
    ]
    return [part for part in parts if part.tokens]


def _between(tokens: Sequence[HeatToken], start: int, stop: int) -> list[HeatToken]:
    return [token for token in tokens if start < token.place <= stop]


def _heat(place: int, token: Token) -> HeatToken:
    return HeatToken(
        place=place,
        text=token.text,
        shade=_shade(token.log_likelihood),
        first=token.rank == 1,
        log_likelihood=token.log_likelihood,
        rank=token.rank,
        note=_note(token),
    )


def _shade(log_likelihood: float | None) -> str:
    if log_likelihood is None:
        return _UNKNOWN
    return f"h{sum(exp(log_likelihood) >= least for least in STEPS) - 1}"


def _note(token: Token) -> str:
    if token.log_likelihood is None:
        return "not scored: nothing stands before it"
    return (
        f"log-likelihood {number(token.log_likelihood, 3)}, "
        f"probability {token_probability(token.log_likelihood)}, rank {token.rank}"
        f"{', the first choice' if token.rank == 1 else ''}"
    )
