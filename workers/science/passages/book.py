"""What windows and spans say of a whole document, in characters of the submitted text and of bounded size."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from workers.science.metrics.metric import JSONObject, MetricResult
from workers.science.passages.spans import Span
from workers.science.passages.windows import Windows

# Probabilities of one sample at which a share of the document is given.
LEVELS: Final = (0.001, 0.01, 0.1, 0.5)
MOST_SPANS: Final = 100
MOST_POINTS: Final = 500

Offsets = npt.NDArray[np.int32]


def book_result(
    windows: Windows, spans: Sequence[Span], offsets: Offsets, n_characters: int, least_context: int
) -> MetricResult:
    """The result of a document.

    Args:
        windows: of the document; at least one.
        spans: its recalled passages in order.
        offsets: int32 [n, 2], first and past-the-last character of each token.
        n_characters: of the document.
        least_context: tokens that every token of a window sees before it at least.
    """
    longest = max(spans, key=lambda span: span.stop - span.start, default=None)
    listed = sorted(spans, key=lambda span: span.start - span.stop)[:MOST_SPANS]
    return {
        "status": "ok",
        "windows": len(windows),
        "least_context": least_context,
        "strict": float(windows.strict.mean()),
        "extractable": [
            {
                "p": level,
                "share": share_covered(windows, windows.log_p >= math.log(level), offsets, n_characters),
            }
            for level in LEVELS
        ],
        "longest_tokens": longest.stop - longest.start if longest else 0,
        "longest_characters": int(offsets[longest.stop - 1, 1] - offsets[longest.start, 0]) if longest else 0,
        "span_count": len(spans),
        "spans": [_span(span, offsets) for span in sorted(listed, key=lambda span: span.start)],
        "coverage": coverage_line(windows, offsets),
    }


def share_covered(
    windows: Windows, chosen: npt.NDArray[np.bool_], offsets: Offsets, n_characters: int
) -> float:
    """The share of the document's characters that lie in the suffix of a chosen window."""
    covered = np.zeros(n_characters + 1, dtype=np.int64)
    firsts = windows.suffixes[chosen]
    np.add.at(covered, offsets[firsts, 0], 1)
    np.add.at(covered, offsets[firsts + windows.suffix_tokens - 1, 1], -1)
    return float((np.cumsum(covered)[:-1] > 0).mean())


def coverage_line(windows: Windows, offsets: Offsets) -> list[JSONObject]:
    """At most MOST_POINTS points: a window each, or several next to each other with their largest numbers.

    p_z has four digits, since this is for plotting.
    """
    parts = np.array_split(np.arange(len(windows)), min(len(windows), MOST_POINTS))
    return [
        {
            "start": int(offsets[windows.suffixes[part[0]], 0]),
            "p_z": float(f"{math.exp(windows.log_p[part].max()):.4g}"),
            "matched_tokens": int(windows.matched[part].max()),
        }
        for part in parts
    ]


def _span(span: Span, offsets: Offsets) -> JSONObject:
    return {
        "start": int(offsets[span.start, 0]),
        "end": int(offsets[span.stop - 1, 1]),
        "tokens": span.stop - span.start,
        "recited_start": int(offsets[span.run_start, 0]),
        "recited_end": int(offsets[span.run_stop - 1, 1]),
        "recited_tokens": span.run_tokens,
        "after": span.after,
        "log_p": span.log_p,
    }
