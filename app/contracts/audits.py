"""How an audit is asked for."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from app.contracts.base import TAG_MARK, Contract
from app.contracts.metrics.fields import ALWAYS, MetricName


def _prefix_token_tag(value: Any) -> str:
    return TAG_MARK + ("name" if isinstance(value, str) else "id")


PrefixTokenName = Literal["auto", "bos", "eos", "bos_else_eos", "none"]
# A token by its role in the checkpoint's tokenizer, or by its id.
PrefixTokenChoice = Annotated[
    Annotated[PrefixTokenName, Tag("tag:name")] | Annotated[int, Field(ge=0, le=2**31 - 1), Tag("tag:id")],
    Discriminator(_prefix_token_tag),
]


class WindowOptions(Contract):
    """Windows over whole documents, in tokens; the defaults are those of arXiv 2505.12546."""

    prefix_tokens: Annotated[
        int, Field(ge=1, le=100_000, description="Before the suffix, within the window.")
    ] = 50
    suffix_tokens: Annotated[
        int, Field(ge=10, le=100_000, description="To recite; also the shortest span that is reported.")
    ] = 50
    stride: Annotated[int, Field(ge=1, le=100_000, description="From a window to the next.")] = 10


class NearVerbatimOptions(Contract):
    """When an output is near a suffix, and how thoroughly such outputs are looked for (arXiv 2603.24917)."""

    similarity: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="1 - (Levenshtein distance in tokens) / (tokens of the suffix), as in `extraction`; "
            "0.95 allows two edits in 48 tokens.",
        ),
    ] = 0.95
    beams: Annotated[
        int,
        Field(ge=1, le=1024, description="Partial outputs kept: more find more, and cost in proportion."),
    ] = 32


class AuditOptions(Contract):
    """How texts are scored; the defaults are those of arXiv 2510.24256 (64 and 48) and 2410.19482 (40).

    `prefix_token` is what stands before each text. `auto`: what the checkpoint's own tokenizer puts there; if
    that is nothing, BOS, else EOS, gives the first token its probability and nothing else sees it. `bos`,
    `eos` or an id: that token, before all of the text. `bos_else_eos`: as lm-evaluation-harness has it.
    `none`: nothing, and the first token is not scored.

    `special_tokens` is what the string of a special token inside a text becomes, such as `<|endoftext|>`:
    `control` that token, as transformers encodes unless told otherwise; `text` its characters.

    `extraction_rate` is the share of recited texts, in [0, 1), that the summary's `extraction_onset` seeks.

    `fdr` is the share of false ones that is accepted among the texts called `memorized` (Benjamini and
    Hochberg 1995), where there are control texts. `seed` is that of all that a calibration draws at random:
    the texts and the folds of its check, and permutations. Nothing else of an audit is random.
    """

    prefix_tokens: Annotated[
        int, Field(ge=1, le=100_000, description="Tokens of the prompt, for texts that bring no split.")
    ] = 64
    suffix_tokens: Annotated[
        int, Field(ge=1, le=100_000, description="Tokens to recite after it (arXiv 2510.24256).")
    ] = 48
    temperature: Annotated[
        float, Field(ge=0.01, le=100, description="What logits are divided by when a client samples.")
    ] = 1.0
    top_k: Annotated[
        int,
        Field(ge=1, le=1_000_000, description="How many of the likeliest tokens are sampled from."),
    ] = 40
    min_k: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of least likely tokens that `membership` looks at (arXiv 2310.16789).",
        ),
    ] = 0.2
    token_evidence: Annotated[
        bool, Field(description="Whether each token's numbers are kept, and later audits derived from them.")
    ] = True
    dtype: Annotated[
        Literal["float32", "bfloat16"],
        Field(description="Of the weights; the softmax is float32 whatever that is."),
    ] = "float32"
    prefix_token: PrefixTokenChoice = "auto"  # noqa: S105 - a token of the vocabulary
    special_tokens: Annotated[
        Literal["control", "text"],
        Field(description="What the string of a special token inside a text becomes: that token, or text."),
    ] = "control"
    extraction_rate: Annotated[
        float, Field(ge=0, lt=1, description="Share of recited texts that `extraction_onset` seeks.")
    ] = 0.01
    fdr: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of false ones accepted among `memorized` texts (Benjamini and Hochberg 1995).",
        ),
    ] = 0.05
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Of what a calibration draws at random.")] = 0
    windows: Annotated[
        WindowOptions | None, Field(description="Of the metric `windows`; null for its defaults.")
    ] = None
    near_verbatim: Annotated[
        NearVerbatimOptions | None, Field(description="Of the metric `near_verbatim`; null for its defaults.")
    ] = None


class AuditSpec(Contract):
    """What an audit measures."""

    metrics: Annotated[list[MetricName], Field(min_length=1, max_length=16)] = [ALWAYS]
    options: AuditOptions = AuditOptions()


def _as_scored_then(value: Any) -> Any:
    """Options of a release without `prefix_token`: it put BOS, else EOS, before every text."""
    if isinstance(value, dict) and "prefix_token" not in value:
        return {**value, "prefix_token": "bos_else_eos"}
    return value


StoredAuditOptions = Annotated[AuditOptions, BeforeValidator(_as_scored_then)]


class StoredAuditSpec(AuditSpec):
    """What an audit measures, read back from the store, whichever release wrote it."""

    options: StoredAuditOptions
