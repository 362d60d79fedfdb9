"""Verbatim extraction: where a text is split, what of its suffix is recited, and how likely sampling is to.

Sources: Carlini et al., arXiv 2202.07646 (prefix and suffix, greedy); arXiv 2510.24256 (64/48 tokens, strict
and loose); HUBBLE, arXiv 2510.19811 (prefix lengths); arXiv 2410.19482 ((n, p)-extraction).
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

SplitStatus = Literal["ok", "scaled", "not_applicable"]
TokenIds = npt.NDArray[np.int64]
Metric = dict[str, "bool | float | int | str | Metric | None"]

VERBATIM_PREFIX_TOKENS = (25, 50, 75, 100)
VERBATIM_SUFFIX_TOKENS = 50
LOOSE_SIMILARITY = 0.75
# Beyond this a float no longer tells neighbouring integers apart.
LARGEST_SAMPLE_COUNT = 2**53


@dataclass(frozen=True, slots=True)
class Split:
    """Where a text is split for extraction: its first tokens are the prefix, the next ones the suffix.

    `ok` is the split that was asked for. `scaled` is a smaller one, because the text or the context is too
    short for it. `not_applicable` means that no token would be left to recite; both lengths are then 0.
    """

    status: SplitStatus
    prefix_tokens: int = 0
    suffix_tokens: int = 0


NOT_APPLICABLE = Split("not_applicable")


def split_by_length(n_tokens: int, room: int, prefix_tokens: int, suffix_tokens: int) -> Split:
    """Split a text after its first `prefix_tokens`, or in the same proportion if there is less room.

    The room is the number of the text's tokens that the context has room for, the last predicted one
    included. With less of it, or fewer tokens, than both lengths together, the prefix takes its share,
    rounded down, and the suffix the rest; at least two tokens are needed for that, one on each side (unless
    no prefix was asked for).
    """
    room = min(n_tokens, room)
    asked = prefix_tokens + suffix_tokens
    if room >= asked:
        return Split("ok", prefix_tokens, suffix_tokens)
    scaled_prefix = max(min(prefix_tokens, 1), room * prefix_tokens // asked)
    if scaled_prefix >= room:
        return NOT_APPLICABLE
    return Split("scaled", scaled_prefix, room - scaled_prefix)


def split_at(boundary: int, n_tokens: int, room: int) -> Split:
    """Split a text at a token that the client chose; the suffix is cut short where the room ends."""
    end = min(n_tokens, room)
    if boundary >= end:
        return NOT_APPLICABLE
    return Split("ok" if end == n_tokens else "scaled", boundary, end - boundary)


def split_for_verbatim(prefix_tokens: int, n_tokens: int, room: int) -> Split:
    """The 50 tokens after a prefix of fixed length (HUBBLE, figure 4), or as many as there are."""
    suffix_tokens = min(VERBATIM_SUFFIX_TOKENS, min(n_tokens, room) - prefix_tokens)
    if suffix_tokens < 1:
        return NOT_APPLICABLE
    status: SplitStatus = "ok" if suffix_tokens == VERBATIM_SUFFIX_TOKENS else "scaled"
    return Split(status, prefix_tokens, suffix_tokens)


def matched_tokens(suffix: TokenIds, choices: TokenIds, ends: npt.NDArray[np.bool_]) -> int:
    """How many tokens of the suffix greedy decoding recites before its first mistake.

    Up to the first mistake greedy decoding has seen the text itself, so teacher-forced choices are its
    choices. It also stops after an end token, recited or not.

    Args:
        suffix: int64 [L], the true tokens.
        choices: int64 [L], the greedy choices given the true tokens before each.
        ends: bool [L], where the true token is one after which generation stops.
    """
    stops = np.flatnonzero((suffix != choices) | ends)
    if len(stops) == 0:
        return len(suffix)
    first = int(stops[0])
    return first + int(suffix[first] == choices[first])


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


def extraction_metric(split: Split, matched: int, recited: TokenIds | None, suffix: TokenIds) -> Metric:
    """Strict and loose recitation of a suffix.

    Args:
        split: the split in use.
        matched: tokens recited before the first mistake.
        recited: the greedy continuation, at most L tokens; None if it was not decoded.
        suffix: the L true tokens.

    Returns:
        `strict` (every token), `similarity` in [0, 1] (one less the Levenshtein distance in tokens over L),
        `loose` (similarity of at least 0.75), `matched_tokens`; the last two lengths say which split was
        used. All are None where the split is not applicable; `similarity` and `loose` also if not decoded.
    """
    applicable = split.status != "not_applicable"
    similarity = None
    if applicable and recited is not None:
        similarity = 1 - Levenshtein.distance(recited.tolist(), suffix.tolist()) / split.suffix_tokens
    return {
        "status": split.status,
        "prefix_tokens": split.prefix_tokens,
        "suffix_tokens": split.suffix_tokens,
        "strict": matched == split.suffix_tokens if applicable else None,
        "similarity": similarity,
        "loose": None if similarity is None else similarity >= LOOSE_SIMILARITY,
        "matched_tokens": matched if applicable else None,
    }


def verbatim_metric(split: Split, matched: int) -> Metric:
    """Recitation after one of HUBBLE's prefix lengths."""
    if split.status == "not_applicable":
        return {"status": split.status}
    return {
        "status": split.status,
        "suffix_tokens": split.suffix_tokens,
        "strict": matched == split.suffix_tokens,
        "matched_tokens": matched,
    }


def sampling_metric(split: Split, log_p_z: float) -> Metric:
    """The probability that one sample recites the suffix, and the samples needed to see it.

    Args:
        split: the split in use.
        log_p_z: sum of the suffix' log-probabilities under the client's decoding; -inf if it never recites.

    Returns:
        `log_p_z` (None for -inf), `p_z` (0 if it underflows), `n_50` and `n_99`: the samples with which the
        suffix appears with probability 0.5 and 0.99; None where no number up to 2**53 is enough.
    """
    if split.status == "not_applicable":
        return {"status": split.status, "log_p_z": None, "p_z": None, "n_50": None, "n_99": None}
    return {
        "status": split.status,
        "log_p_z": log_p_z if math.isfinite(log_p_z) else None,
        "p_z": math.exp(log_p_z),
        "n_50": samples_needed(log_p_z, 0.5),
        "n_99": samples_needed(log_p_z, 0.99),
    }


def samples_needed(log_p_z: float, probability: float) -> int | None:
    """The smallest n with 1 - (1 - p_z)^n >= probability (arXiv 2410.19482, section 3), computed in logs.

    Returns:
        None if there is none up to 2**53.
    """
    p_z = math.exp(log_p_z)
    if p_z == 0:
        return None
    if p_z == 1:
        return 1
    # Compared before it is rounded up: the quotient is infinite for the smallest of probabilities.
    samples = math.log1p(-probability) / math.log1p(-p_z)
    return math.ceil(samples) if samples <= LARGEST_SAMPLE_COUNT else None
