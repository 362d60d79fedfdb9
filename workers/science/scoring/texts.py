"""What goes into scoring and what comes out: texts, options, scores and token evidence."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from workers.science.metrics.metric import MetricResult, Need
from workers.science.metrics.registry import METRICS
from workers.science.models.tokenization import SpecialTokens

PrefixTokenName = Literal["auto", "bos", "eos", "bos_else_eos", "none"]
PrefixTokenChoice = PrefixTokenName | int


@dataclass(frozen=True, slots=True)
class TextInput:
    """A text to score, with the split that the client gave, if any: then `text` is `prefix + suffix`."""

    text: str
    prefix: str | None = None
    suffix: str | None = None

    def __post_init__(self) -> None:
        if (self.prefix is None) != (self.suffix is None):
            raise ValueError("prefix and suffix come together")
        if self.prefix is not None and self.suffix is not None and self.text != self.prefix + self.suffix:
            raise ValueError("text must be prefix + suffix")


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """What to measure beside NL, and how.

    Attributes:
        metrics: names of the registry; all of them unless given.
        prefix_tokens: prompt of metrics that split a text as asked, for texts without a split of their own.
        suffix_tokens: tokens to recite after it.
        decode: whether `extraction` decodes on from the first mistake; without it `similarity` and `loose`
            are None and everything comes from the one forward pass.
        temperature: of the client's decoding, for metrics that need `sampling`.
        top_k: of the client's decoding.
        min_k: the share of least likely tokens that `membership` looks at, above 0 and at most 1.
        shots: texts of the same kind that are no members, which `membership` puts before each text to see
            what that changes, but not before itself; see `choose_shots`.
        token_evidence: whether to return what the model made of each token.
        prefix_token: what stands before a text; see `resolve_prefix_token`.
        special_tokens: what the string of a special token inside a text becomes; see `tokenize`.
        batch_tokens: tokens in a batch, padding included; by default what suits the device.
    """

    metrics: frozenset[str] = field(default_factory=lambda: frozenset(METRICS))
    prefix_tokens: int = 64
    suffix_tokens: int = 48
    decode: bool = True
    temperature: float = 1.0
    top_k: int = 40
    min_k: float = 0.2
    shots: tuple[str, ...] = ()
    token_evidence: bool = True
    prefix_token: PrefixTokenChoice = "auto"  # noqa: S105 - a token of the vocabulary
    special_tokens: SpecialTokens = "control"
    batch_tokens: int | None = None

    def __post_init__(self) -> None:
        if unknown := self.metrics - METRICS.keys():
            raise ValueError(f"unknown metrics: {', '.join(sorted(unknown))}")
        if self.prefix_tokens < 0 or self.suffix_tokens < 1:
            raise ValueError("prefix_tokens must be at least 0 and suffix_tokens at least 1")
        if self.temperature <= 0 or self.top_k < 1:
            raise ValueError("temperature must be above 0 and top_k at least 1")
        if not 0 < self.min_k <= 1:
            raise ValueError("min_k must be above 0 and at most 1")
        if self.prefix_token not in get_args(PrefixTokenName) and not (
            isinstance(self.prefix_token, int) and self.prefix_token >= 0
        ):
            raise ValueError("prefix_token must be a token id or one of its names")
        if self.special_tokens not in get_args(SpecialTokens):
            raise ValueError("special_tokens must be control or text")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise ValueError("batch_tokens must be at least 1")

    @property
    def needs(self) -> frozenset[Need]:
        """What the forward pass has to find for the metrics; no continuation without `decode`."""
        needs = frozenset[Need]().union(*(METRICS[name].needs for name in self.metrics))
        return needs if self.decode else needs - {Need.CONTINUATION}


@dataclass(frozen=True, slots=True)
class TokenEvidence:
    """Token by token, what the model made of a text.

    Shapes: N tokens of the text, the first included where it is not scored.

    Attributes:
        token_ids: int32 [N].
        log_likelihood: float32 [N], natural logarithm; NaN for a first token that is not scored.
        rank: int32 [N]; 1 exactly where the token is the greedy choice; 0 for a first token that is not
            scored.
        mean: float32 [N], mean log-probability of the vocabulary, minus its entropy in nats, at most 0; NaN
            for a first token that is not scored.
        deviation: float32 [N], standard deviation of the same, in nats, at least 0; likewise.
        sampling_log_likelihood: float32 [N], log-probability that the client's decoding draws the token, -inf
            if it never does, NaN outside suffixes; None if no metric needs it.
        offsets: int32 [N, 2], first and past-the-last character of each token.
    """

    token_ids: npt.NDArray[np.int32]
    log_likelihood: npt.NDArray[np.float32]
    rank: npt.NDArray[np.int32]
    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]
    sampling_log_likelihood: npt.NDArray[np.float32] | None
    offsets: npt.NDArray[np.int32]

    @property
    def matched(self) -> npt.NDArray[np.bool_]:
        """Where the token is the greedy choice: bool [N]."""
        matched: npt.NDArray[np.bool_] = self.rank == 1
        return matched


@dataclass(frozen=True, slots=True)
class TextScore:
    """The numbers of one text; natural logarithms.

    Attributes:
        n_tokens: tokens that are scored: those of the text, without added special tokens, and without the
            first if there is no prefix token.
        n_bytes: bytes of the whole text in UTF-8.
        n_windows: windows that the text was cut into.
        log_likelihood: sum over the scored tokens of log p(token | tokens before it), at most 0.
        nl: log_likelihood / n_tokens, HUBBLE's NL(x) (arXiv 2510.19811); higher is more memorized.
        nl_byte: log_likelihood / n_bytes, comparable across tokenizers.
        perplexity: exp(-nl), at most the largest float.
        metrics: one JSON object for each metric that was asked for.
        evidence: the tokens, if asked for.
        error: None, or why the text has no numbers: `no_tokens` (it tokenizes to nothing),
            `only_first_token` (its one token has nothing before it) or `token_outside_vocabulary` (a token
            that the model has no row for).
    """

    n_tokens: int
    n_bytes: int
    n_windows: int = 0
    log_likelihood: float | None = None
    nl: float | None = None
    nl_byte: float | None = None
    perplexity: float | None = None
    metrics: dict[str, MetricResult] = field(default_factory=dict)
    evidence: TokenEvidence | None = None
    error: str | None = None


Share = Literal["strict", "loose"]


def extracted(score: TextScore, measure: Share = "strict") -> bool | None:
    """Whether a text is extracted, by a measure; None of one that has no numbers or is too short to tell.

    Raises:
        KeyError: `extraction` was not asked for.
    """
    return None if score.error is not None else score.metrics["extraction"][measure]  # type: ignore[return-value]


def shares_extracted(scores: Iterable[TextScore]) -> dict[Share, float | None]:
    """The shares of texts that are extracted, by each measure; None if no text is long enough to tell."""
    known: dict[Share, int] = {"strict": 0, "loose": 0}
    recited = known.copy()
    for score in scores:
        for measure in known:
            found = extracted(score, measure)
            known[measure] += found is not None
            recited[measure] += bool(found)
    return {measure: recited[measure] / n if n else None for measure, n in known.items()}
