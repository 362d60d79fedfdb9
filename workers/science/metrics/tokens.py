"""What the forward pass found of one text's tokens, and what that tells of greedy decoding."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.science.metrics.splits import Split

TokenIds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ScoredTokens:
    """The n tokens of a text as the language model saw them. What no metric needs is not there to be read.

    Attributes:
        text: what they are the tokens of.
        token_ids: int64 [n], the text's own tokens.
        log_likelihood: float32 [n], natural logarithm; 0 for a first token that nothing conditions.
        n_scored: how many tokens have a log-likelihood: n, or n - 1 without the first.
        chosen: bool [n], where the token is the greedy choice; it counts at suffixes (`Need.CHOICES`).
        ends: bool [n], where the token is one after which generation stops.
        mean: float32 [n], of the vocabulary's log-probabilities (`Need.MOMENTS`), else NaN; see
            `PositionScores` of the forward pass.
        deviation: float32 [n], their standard deviation, likewise.
        sampling_log_likelihood: float32 [n], at suffixes (`Need.SAMPLING`), else NaN; -inf for a token that
            is never drawn.
        continuation: int64 [at most the suffix' length], what greedy decoding says after the prefix that was
            asked for; None without `Need.CONTINUATION`, or where nothing can be continued.
        min_k: the share of least likely tokens that membership is told by, as asked for.
    """

    text: str
    token_ids: TokenIds
    log_likelihood: npt.NDArray[np.float32]
    n_scored: int
    chosen: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.bool_]
    mean: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32]
    sampling_log_likelihood: npt.NDArray[np.float32]
    continuation: TokenIds | None
    min_k: float

    def matched(self, split: Split) -> int:
        """How many tokens of a suffix greedy decoding recites before its first mistake (`Need.CHOICES`)."""
        return matched_tokens(self.chosen[split.suffix], self.ends[split.suffix])


def matched_tokens(chosen: npt.NDArray[np.bool_], ends: npt.NDArray[np.bool_]) -> int:
    """How many tokens of the suffix greedy decoding recites before its first mistake.

    Up to the first mistake greedy decoding has seen the text itself, so teacher-forced choices are its
    choices. It also stops after an end token, recited or not.

    Args:
        chosen: bool [L], where the true token is the greedy choice given the true tokens before it.
        ends: bool [L], where the true token is one after which generation stops.
    """
    stops = np.flatnonzero(~chosen | ends)
    if len(stops) == 0:
        return len(chosen)
    first = int(stops[0])
    return first + int(chosen[first])


def known_continuation(
    suffix: TokenIds,
    choices: TokenIds,
    matched: int,
    end_tokens: frozenset[int],
) -> tuple[TokenIds, bool]:
    """What greedy decoding says as far as teacher forcing tells: the matched tokens and the first mistake.

    Returns:
        The tokens, int64 [at most L], and whether decoding ends there: the suffix is complete or an end
        token was said.
    """
    ended = matched > 0 and int(suffix[matched - 1]) in end_tokens
    said = suffix[:matched] if ended else np.append(suffix[:matched], choices[matched : matched + 1])
    return said, len(said) == len(suffix) or int(said[-1]) in end_tokens
