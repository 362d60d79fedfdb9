"""Windows at every stride of a document: what of each suffix is recited, and how likely a sample recites it.

Source: Cooper et al., arXiv 2505.12546 (50 + 50 tokens, every 10 tokens), with p_z of arXiv 2410.19482.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workers.science.passages.overlapping import RecalledTokens


@dataclass(frozen=True, slots=True)
class Windows:
    """W windows of a document, each `prefix_tokens` and then `suffix_tokens` tokens.

    Attributes:
        suffixes: int64 [W], the first token of each suffix.
        suffix_tokens: tokens of each suffix.
        matched: int64 [W], tokens of the suffix recited before the first mistake.
        log_p: float64 [W], log p_z: that one sample of the client's decoding recites the suffix; -inf for
            never, also where an end token stands before the suffix' last place.
    """

    suffixes: npt.NDArray[np.int64]
    suffix_tokens: int
    matched: npt.NDArray[np.int64]
    log_p: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.suffixes)

    @property
    def strict(self) -> npt.NDArray[np.bool_]:
        """Where every token of the suffix is recited: bool [W]."""
        strict: npt.NDArray[np.bool_] = self.matched == self.suffix_tokens
        return strict


def windows_of(tokens: RecalledTokens, prefix_tokens: int, suffix_tokens: int, stride: int) -> Windows:
    """The windows of a document that begin at 0, `stride`, 2 `stride`, ... and lie wholly in it."""
    n_tokens = len(tokens.recited)
    suffixes = np.arange(prefix_tokens, n_tokens - suffix_tokens + 1, stride, dtype=np.int64)
    return Windows(
        suffixes,
        suffix_tokens,
        _matched(tokens, suffixes, suffix_tokens),
        _sums(tokens, suffixes, suffix_tokens),
    )


def _matched(
    tokens: RecalledTokens, suffixes: npt.NDArray[np.int64], suffix_tokens: int
) -> npt.NDArray[np.int64]:
    """Tokens recited from each place on; recitation stops with a mistake, and after an end token."""
    n_tokens = len(tokens.recited)
    after = np.flatnonzero(~tokens.recited | tokens.ends)
    # The first place at which recitation stops, from each suffix on; the document's end if there is none.
    stops = np.append(after, n_tokens)[np.searchsorted(after, suffixes)]
    said = stops < n_tokens
    said[said] = tokens.recited[stops[said]]
    return np.minimum(stops + said - suffixes, suffix_tokens)


def _sums(tokens: RecalledTokens, starts: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.float64]:
    """Log-probabilities of `length` tokens from each start on; a sample says nothing after an end token."""
    numbers = tokens.sampling_log_likelihood
    finite = np.isfinite(numbers)
    sums = np.concatenate(([0.0], np.cumsum(np.where(finite, numbers, 0.0), dtype=np.float64)))
    impossible = np.concatenate(([0], np.cumsum(~finite)))
    stops = starts + length
    ended = np.concatenate(([0], np.cumsum(tokens.ends)))
    never = (impossible[stops] > impossible[starts]) | (ended[stops - 1] > ended[starts])
    return np.where(never, -np.inf, sums[stops] - sums[starts])
