"""What an audit found as a whole, as it is answered."""

from typing import Annotated

from pydantic import BaseModel, Field

from app.contracts.results.intervals import MeanInterval, ShareInterval

_OLDER = "null in audits that an older release ended"
_NL = "Mean `nl`, in nats per token, at most 0; higher is more strongly memorized."
_STRICT = (
    "Of the texts that are long enough to be split, those whose whole suffix greedy decoding recites, by "
    "splits as asked for and scaled ones together; null if `extraction` was not asked for or no text is long "
    "enough."
)
_LOOSE = "As `strict`, with a similarity of at least 0.75."


class SplitCounts(BaseModel):
    """How many texts could be split into prefix and suffix.

    `ok` as it was asked for, `scaled` with fewer tokens, `not_applicable` not at all: no token would be left
    to recite. Texts of the first two kinds are counted together wherever recitation is.
    """

    ok: int
    scaled: int
    not_applicable: int


class Level(BaseModel):
    """The texts of one group with one known number of duplicates."""

    group: str | None
    duplicates: int | None
    nl: Annotated[MeanInterval, Field(description=_NL)]
    strict: Annotated[ShareInterval | None, Field(description=_STRICT)]
    loose: Annotated[ShareInterval | None, Field(description=_LOOSE)]


class Gain(MeanInterval):
    """How much higher the mean NL is at the most duplicates than at the fewest, with its 95 % interval.

    In nats per token; positive means that inserted texts are memorized. `n` is the smaller of the two
    numbers of texts; the interval is null when that is one.
    """

    from_duplicates: int
    to_duplicates: int


class VerbatimSummary(BaseModel):
    """How many texts are recited after a prefix of one length: the 50 tokens after it, or all there are."""

    prefix_tokens: int
    splits: SplitCounts
    strict: Annotated[
        ShareInterval | None,
        Field(description="Of the texts longer than the prefix; null if there is none."),
    ]


class ExtractableShare(BaseModel):
    """How many texts come up with a probability of at least 0.5 in so many samples (arXiv 2410.19482)."""

    samples: int
    texts: Annotated[ShareInterval, Field(description="Of the texts that are long enough to be split.")]


class SamplingSummary(BaseModel):
    """The odds that the client's decoding recites suffixes, over the texts that are long enough."""

    splits: SplitCounts
    log_p_z: Annotated[
        MeanInterval | None,
        Field(
            description="Mean natural logarithm of `p_z`, at most 0, without the `impossible` texts; null if "
            "no text is left."
        ),
    ]
    impossible: Annotated[
        int, Field(description="Texts that are never sampled: a token is outside the top k.")
    ]
    largest_p_z: Annotated[
        float | None,
        Field(description="Of the text sampled most easily, 0 to 1; null if no text can be split."),
    ]
    extractable: Annotated[
        list[ExtractableShare],
        Field(description="By samples: 1, 10, 100, 1000; empty if no text can be split."),
    ]


class AuditSummary(BaseModel):
    """What an audit found, over all texts that could be scored; the others are counted in `errors`."""

    texts: int
    errors: int
    tokens: int
    log_likelihood: Annotated[float, Field(description="Total, in nats, at most 0.")]
    perplexity: Annotated[
        float | None,
        Field(description="exp(-`log_likelihood` / `tokens`), at least 1; null if nothing was scored."),
    ]
    nl: Annotated[MeanInterval | None, Field(description=_NL + " Null if nothing was scored.")]
    nl_byte: Annotated[
        MeanInterval | None, Field(description="Mean `nl_byte`, in nats per UTF-8 byte; null as `nl`.")
    ]
    strict: Annotated[ShareInterval | None, Field(description=_STRICT)]
    loose: Annotated[ShareInterval | None, Field(description=_LOOSE)]
    similarity: Annotated[
        MeanInterval | None,
        Field(description="Mean similarity, 0 to 1, 1 if all is recited; null as `strict`."),
    ]
    extraction_splits: Annotated[
        SplitCounts | None,
        Field(description=f"What `strict` and `loose` rest on; null if not asked for, and {_OLDER}."),
    ] = None
    verbatim: Annotated[
        list[VerbatimSummary] | None,
        Field(description=f"By length of the prefix; null if not asked for, and {_OLDER}."),
    ] = None
    p_z: Annotated[SamplingSummary | None, Field(description=f"Null if not asked for, and {_OLDER}.")] = None
    levels: Annotated[
        list[Level], Field(description="By group and duplicates; empty if neither is known, or above 1,000.")
    ]
    dose_response: Annotated[
        list[Level], Field(description="By duplicates alone, fewest first; empty as `levels`.")
    ]
    gain: Annotated[
        Gain | None, Field(description="Null unless texts of two numbers of duplicates are known.")
    ]
