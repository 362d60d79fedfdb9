"""Scores of texts, and the tokens that they rest on, as they are answered."""

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, Field, create_model

from app.contracts.metrics.fields import UNSCORED, score_fields
from app.contracts.results.calibration import Verdict
from app.store.score_findings import ScoreFinding
from app.store.scores import Score

_UNJUDGED: Final = "Null where `verdict` is null or `uncalibrated`."


class _TextScore(BaseModel):
    """Every text has these, whatever was measured."""

    text_id: Annotated[str, Field(description="The text's id in its set.")]
    ordinal: Annotated[int, Field(description="The text's place in its set, from 0.")]
    group: Annotated[str | None, Field(description="As uploaded; null where it was not given.")]
    duplicates: Annotated[
        int | None, Field(description="Known insertions, as uploaded; null where they were not given.")
    ]
    n_tokens: Annotated[int, Field(description="Tokens scored.")]
    n_bytes: Annotated[int, Field(description="Bytes of the text in UTF-8.")]
    n_windows: Annotated[int, Field(description="Windows of the model's context that it was scored in.")]
    log_likelihood: Annotated[
        float | None, Field(description="Of the whole text, in nats, at most 0; " + UNSCORED)
    ]
    nl: Annotated[
        float | None,
        Field(
            description="`log_likelihood` per token, in nats, at most 0: NL(x) of arXiv 2510.19811; "
            + UNSCORED
        ),
    ]
    nl_byte: Annotated[
        float | None, Field(description="`log_likelihood` per UTF-8 byte, in nats, at most 0; " + UNSCORED)
    ]
    perplexity: Annotated[float | None, Field(description="exp(-`nl`), at least 1; " + UNSCORED)]


if TYPE_CHECKING:
    _MeasuredScore = _TextScore
else:
    _MeasuredScore = create_model("_MeasuredScore", __base__=_TextScore, **score_fields())


class ScoreOut(_MeasuredScore):
    """The numbers of one text. Natural logs; a higher `nl` means more strongly memorized.

    `n_tokens` counts those that are scored: all, or all but the first without a prefix token.
    `error` names why a text could not be scored; its numbers are then null.
    """

    p_value: Annotated[
        float | None,
        Field(
            description="Conformal p-value, in (0, 1]: (1 + controls as strongly memorized or more) / (1 + "
            "controls); lower means more surely memorized (Vovk, Gammerman and Shafer 2005). " + _UNJUDGED
        ),
    ] = None
    q_value: Annotated[
        float | None,
        Field(
            description="Least `options.fdr` at which the text is `memorized`, in (0, 1] (Benjamini and "
            "Hochberg 1995). " + _UNJUDGED
        ),
    ] = None
    verdict: Annotated[
        Verdict | None,
        Field(
            description="`memorized`: `q_value` is at most `options.fdr`. `not_shown`: it is not, which "
            "proves nothing. `uncalibrated`: there are no control texts, or none like the text; "
            "`summary.calibration` says why. " + UNSCORED.capitalize()
        ),
    ] = None
    equivalent_duplicates: Annotated[
        float | None,
        Field(
            description="How many known insertions the text's `nl` is worth, at least 0, by the monotone fit "
            "of the audit's own texts of known `duplicates`; null where they are known or there is no fit."
        ),
    ] = None
    equivalent_low: Annotated[
        float | None, Field(description="Where its 95 % interval begins; null likewise.")
    ] = None
    equivalent_high: Annotated[
        float | None, Field(description="Where its 95 % interval ends; null likewise.")
    ] = None
    error: Annotated[
        str | None, Field(description="Why the text could not be scored, as `no_tokens`; null if it was.")
    ]

    @classmethod
    def of(cls, row: Score, finding: ScoreFinding | None = None) -> Self:
        """The resource for a row, with what was found of its text by comparison."""
        return cls(
            text_id=row.text_id,
            ordinal=row.ordinal,
            group=row.group,
            duplicates=row.duplicates,
            n_tokens=row.n_tokens,
            n_bytes=row.n_bytes,
            n_windows=row.n_windows,
            log_likelihood=row.log_likelihood,
            nl=row.nl,
            nl_byte=row.nl_byte,
            perplexity=row.perplexity,
            error=row.error,
            **_metrics(row, finding),
            **_comparison(row, finding),
        )


def _metrics(row: Score, finding: ScoreFinding | None) -> dict[str, Any]:
    """What was measured of a text, and the one membership statistic that another audit is needed for."""
    membership = row.metrics.get("membership")
    if membership is None or finding is None:
        return row.metrics
    return row.metrics | {"membership": membership | {"reference": finding.reference}}


def _comparison(row: Score, finding: ScoreFinding | None) -> dict[str, Any]:
    unjudged = None if row.error else Verdict.UNCALIBRATED
    if finding is None:
        return {"verdict": unjudged}
    return {
        "p_value": finding.p_value,
        "q_value": finding.q_value,
        "verdict": finding.verdict or unjudged,
        "equivalent_duplicates": finding.equivalent_duplicates,
        "equivalent_low": finding.equivalent_low,
        "equivalent_high": finding.equivalent_high,
    }


_OLDER_EVIDENCE = "null as well in the evidence of an older release."


class Token(BaseModel):
    """One token of a text as the language model saw it: rank 1 means it was the model's first choice.

    The numbers of a first token are null where nothing stood before it (`prefix_token: "none"`).
    """

    token_id: int
    text: str
    start: int
    end: int
    log_likelihood: float | None
    rank: int | None
    matched: bool | None
    mean: Annotated[
        float | None,
        Field(
            description="Mean log-likelihood of a token drawn from the model at this place: minus its "
            f"entropy, in nats, at most 0 (arXiv 2404.02936); {_OLDER_EVIDENCE}"
        ),
    ]
    deviation: Annotated[
        float | None,
        Field(description=f"Standard deviation of the same, in nats, at least 0; {_OLDER_EVIDENCE}"),
    ]


class TokenEvidenceOut(BaseModel):
    """The tokens of one text: the evidence behind its score."""

    object: Literal["token_evidence"] = "token_evidence"
    audit: str
    text_id: str
    tokens: list[Token]
