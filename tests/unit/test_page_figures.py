"""Numbers as pages write them, and the colour of tokens."""

import math

import pytest

from app.audits.score_schemas import ScoreOut, Token
from app.contracts.results.intervals import MeanInterval, ShareDifference, ShareInterval
from app.pages import figures
from app.pages.heat import STEPS, legend, parts_of


def token(place: int, log_likelihood: float | None, rank: int | None) -> Token:
    return Token(
        token_id=place,
        text=f"t{place}",
        start=place,
        end=place + 1,
        log_likelihood=log_likelihood,
        rank=rank,
        matched=None if rank is None else rank == 1,
        mean=None,
        deviation=None,
    )


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        (figures.number(-1.25), "-1.25"),
        (figures.number(-0.001), "0.00"),
        (figures.number(1234567.891, 1), "1 234 567.9"),
        (figures.number(None), "\u2013"),
        (figures.number(math.inf), "∞"),
        (figures.signed(0.5), "+0.50"),
        (figures.signed(0.001), "0.00"),
        (figures.signed(-0.5), "-0.50"),
        (figures.percent(0.0678), "6.8 %"),
        (figures.exact_percent(0.995), "99.5 %"),
        (figures.exact_percent(0.05), "5 %"),
        (figures.probability(0.0), "0"),
        (figures.probability(0.25), "0.250"),
        (figures.probability(2.4e-5), "2.4·10⁻⁵"),
        (figures.figure(0.0967), "0.0967"),
        (figures.figure(-2.0e-4), "-2.0·10⁻⁴"),
        (figures.figure(12345.6), "12 346"),
        (figures.mean(MeanInterval(n=3, mean=-1, low=-2, high=0.5)), "-1.00 [-2.00, 0.50]"),
        (figures.mean(MeanInterval(n=1, mean=-1, low=None, high=None)), "-1.00"),
        (
            figures.share(ShareInterval(n=4, count=1, share=0.25, low=0.1, high=0.6)),
            "25.0 % [10.0 %, 60.0 %]",
        ),
        (
            figures.change(ShareDifference(n=4, lost=1, gained=0, difference=-0.25, low=-0.6, high=0.1)),
            "-25.0 % [-60.0 %, +10.0 %]",
        ),
        (figures.size(1536), "1.5 kB"),
        (figures.size(12), "12 B"),
        (figures.large(1_340_000), "1.3 M"),
        (figures.seconds(59.94), "59.9 s"),
        (figures.seconds(125), "2 min 5 s"),
        (figures.seconds(7260), "2 h 1 min"),
        (figures.words("membership_auc"), "membership AUC"),
        (figures.heading("strict"), "Recited exactly"),
        (figures.heading("min_k_pp"), "Min-K%++"),
        (figures.gist("Mean `a.b`, in its unit; null if it was not asked for."), "Mean a.b, in its unit."),
        (str(figures.marked("`<b>` holds & stays")), "<code>&lt;b&gt;</code> holds &amp; stays"),
    ],
)
def test_numbers_are_written(written: str, wanted: str) -> None:
    assert written.replace("\u202f", " ").replace("\u2212", "-") == wanted


def test_a_minus_is_no_hyphen() -> None:
    assert figures.number(-1.25) == "\u22121.25"


def test_a_token_is_coloured_by_its_probability() -> None:
    """The step of a token is the last whose least probability it has, as counting them one by one says."""
    for probability in (1e-9, 0.0099, 0.01, 0.0999, 0.1, 0.4999, 0.5, 0.89, 0.9, 0.989, 0.99, 1.0):
        # As float32 evidence has it: a little above the limit.
        (part,) = parts_of([token(0, math.log(probability) + 1e-9 * (probability < 1), 2)], None, 0, 1)
        assert part.tokens[0].shade == f"h{max(i for i, least in enumerate(STEPS) if probability >= least)}"
    (part,) = parts_of([token(0, None, None)], None, 0, 1)
    assert part.tokens[0].shade == "hx"
    assert [step.shade for step in legend()] == [f"h{place}" for place in range(len(STEPS))]


def test_tokens_have_the_role_that_they_have_in_an_extraction() -> None:
    tokens = [token(place, -0.5, 1) for place in range(10)]
    split = {"status": "ok", "prefix_tokens": 4, "suffix_tokens": 3, "strict": False, "matched_tokens": 2}
    facts = {"text_id": "t", "ordinal": 0, "group": None, "duplicates": None, "error": None}
    numbers = {"log_likelihood": -5.0, "nl": -0.5, "nl_byte": -0.1, "perplexity": 1.6}
    counts = {"n_tokens": 10, "n_bytes": 40, "n_windows": 1}
    score = ScoreOut.model_validate({**facts, **numbers, **counts, "extraction": split})
    parts = parts_of(tokens, score, 0, 10)
    assert [(part.role, [each.place for each in part.tokens]) for part in parts] == [
        ("prefix", [1, 2, 3, 4]),
        ("suffix", [5, 6, 7]),
        ("rest", [8, 9, 10]),
    ]
    assert parts[1].note == "2 of 3 tokens recited before the first mistake"
    assert [part.role for part in parts_of(tokens[5:], score, 5, 10)] == ["suffix", "rest"]
