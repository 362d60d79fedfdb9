"""Levenshtein distances of growing outputs to one target, a row of the dynamic programme each.

Row `r` of an output of t tokens says at place j its distance to the target's first j tokens, j = 0 to L
(Wagner and Fischer 1974). All arrays are int64; L is the number of tokens of the target.
"""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def first_row(length: int) -> Rows:
    """The row [L + 1] of an output without tokens."""
    return np.arange(length + 1)


def next_rows(rows: Rows, matches: npt.NDArray[np.bool_]) -> Rows:
    """The rows of outputs that are one token longer.

    Args:
        rows: of the outputs so far, [..., L + 1].
        matches: where the new token equals the target's, [..., L].
    """
    later = np.minimum(rows[..., 1:] + 1, rows[..., :-1] + ~matches)
    first = np.broadcast_to(rows[..., :1] + 1, (*later.shape[:-1], 1))
    grown = np.concatenate((first, later), axis=-1)
    # A token of the target that the output lacks costs one more than the place before it.
    places = np.arange(rows.shape[-1])
    closest: Rows = np.minimum.accumulate(grown - places, axis=-1) + places
    return closest


def least_distance(rows: Rows, n_tokens: int, *, last: int) -> Rows:
    """The least distance [...] that outputs of `n_tokens` so far may end with, if they stop at length L.

    An output that is behind the target lacks what it is behind by. One that is ahead has either to say as
    many more tokens, or to stop early.

    Args:
        rows: of the outputs.
        n_tokens: how many each has.
        last: what an early stop costs at least: 1 for the end token, which the output then has too many; 0
            if the target has one that it may match.
    """
    ahead = np.arange(rows.shape[-1]) - n_tokens
    least: Rows = (rows + np.where(ahead > 0, last, -ahead)).min(axis=-1)
    return least
