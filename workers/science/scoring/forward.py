"""The one forward pass: every token of many texts, scored in batches of windows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from workers.science.errors import ScoreNotFinite
from workers.science.metrics.splits import Split
from workers.science.metrics.tokens import TokenIds
from workers.science.models.loading import LanguageModel
from workers.science.scoring.batching import (
    Window,
    batches_for,
    cut_windows,
    map_on_cores,
    one_ahead,
)
from workers.science.scoring.likelihood import PositionScores, Wanted, base_hidden_states, score_positions
from workers.science.scoring.packing import packed_hidden_states
from workers.science.scoring.prefix_token import PrefixToken
from workers.science.scoring.transfer import Returning, bring_back, to_device

# The fields of `PositionScores` and of the ledger, and those of which every number is finite.
_RECORDED: Final = tuple(PositionScores.__dataclass_fields__)
_FINITE: Final = ("log_likelihood", "mean", "deviation")


@dataclass(frozen=True, slots=True)
class TextTokens:
    """A text for the forward pass: its tokens, int64 [n], and the splits whose suffixes may be recited."""

    token_ids: TokenIds
    splits: list[Split]


class Ledger:
    """What the model said of each token of many texts, laid end to end (T tokens).

    Attributes:
        log_likelihood: float32 [T].
        ends: bool [T], where the token is one after which generation stops.
        choice: int64 [T], greedy choices where they or ranks were asked for, else -1.
        rank: int32 [T], 0 if not asked for; see `PositionScores`.
        mean: float32 [T], NaN where not asked for, like all that follow.
        deviation: float32 [T].
        sampling_log_likelihood: float32 [T].
    """

    def __init__(self, texts: Sequence[TextTokens], end_tokens: frozenset[int]) -> None:
        lengths = [len(text.token_ids) for text in texts]
        self.starts = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
        n_tokens = int(self.starts[-1])
        self.token_ids = np.concatenate([np.empty(0, np.int64), *(text.token_ids for text in texts)])
        self.ends = np.isin(self.token_ids, list(end_tokens))
        self.recitable = np.zeros(n_tokens, dtype=np.bool_)
        for index, text in enumerate(texts):
            for split in text.splits:
                self.recitable[self.suffix(index, split)] = True
        self.log_likelihood = np.zeros(n_tokens, dtype=np.float32)
        self.choice = np.full(n_tokens, -1, dtype=np.int64)
        self.rank = np.zeros(n_tokens, dtype=np.int32)
        self.mean, self.deviation, self.sampling_log_likelihood = np.full((3, n_tokens), np.nan, np.float32)

    def of(self, text: int) -> slice:
        """The places of a text's tokens."""
        return slice(int(self.starts[text]), int(self.starts[text + 1]))

    def suffix(self, text: int, split: Split) -> slice:
        """The places of a text's suffix."""
        start = int(self.starts[text]) + split.prefix_tokens
        return slice(start, start + split.suffix_tokens)

    def record(self, places: npt.NDArray[np.int64], scores: PositionScores) -> None:
        """Write the scores of tokens at their places.

        Raises:
            ScoreNotFinite: `log_likelihood_not_finite`.
        """
        for name in _RECORDED:
            found = getattr(scores, name)
            if found is not None:
                getattr(self, name)[places] = found.cpu().numpy()
        for name in _FINITE:
            if getattr(scores, name) is not None and not np.isfinite(getattr(self, name)[places]).all():
                raise ScoreNotFinite(
                    "log_likelihood_not_finite",
                    "The language model gave a log-likelihood that is not finite; score it in float32.",
                )


def score_tokens(
    language_model: LanguageModel,
    ledger: Ledger,
    prefix_token: PrefixToken,
    *,
    wanted: Wanted,
    batch_tokens: int | None,
    on_batch: Callable[[list[Window]], None],
    windows: Sequence[Window] | None = None,
) -> None:
    """Score every token of the ledger's texts once, but for first tokens that nothing conditions.

    Args:
        language_model: the model.
        ledger: the texts, and where the scores are written.
        prefix_token: what stands before each text.
        wanted: what to find of every token, and of recitable ones.
        batch_tokens: tokens in a batch with padding; by default what suits the device.
        on_batch: told the windows of each batch that is done; may raise to stop.
        windows: what goes through the model; by default `cut_windows` of every text.
    """
    if prefix_token.conditions == "first_token":
        _score_first_tokens(
            language_model, ledger, prefix_token, replace(wanted, choice=False, sampling=None)
        )
    if windows is None:
        windows = [
            window
            for index, length in enumerate(np.diff(ledger.starts).tolist())
            for window in cut_windows(
                index, length, language_model.context_length, len(prefix_token.in_front)
            )
        ]
    device = language_model.device
    batches = batches_for(device, windows, batch_tokens, padded=not language_model.packs)
    results = map_on_cores(
        lambda batch: _score_batch(language_model, ledger, batch, prefix_token.in_front, wanted),
        batches,
        device,
    )
    for batch, scored in zip(batches, results if device.type == "cpu" else one_ahead(results), strict=True):
        ledger.record(scored.places, scored.scores.arrived())
        on_batch(batch)


@torch.inference_mode()
def _score_first_tokens(
    language_model: LanguageModel, ledger: Ledger, prefix_token: PrefixToken, wanted: Wanted
) -> None:
    """Score each text's first token by the one distribution that follows the prefix token.

    Each token is scored once, however many texts begin with it: of many short ones that is a large part.
    """
    places = ledger.starts[:-1][np.diff(ledger.starts) > 0]
    if len(places) == 0:
        return
    device = language_model.device
    inputs = torch.tensor([prefix_token.ids], device=device)
    hidden = base_hidden_states(language_model.model, inputs)[0, -1]
    first, of_text = np.unique(ledger.token_ids[places], return_inverse=True)
    targets = torch.from_numpy(first).to(device)
    scores = score_positions(language_model.model, hidden.expand(len(first), -1), targets, wanted)
    ledger.record(places, _repeated(scores, torch.from_numpy(of_text).to(device)))


def _repeated(scores: PositionScores, rows: torch.Tensor) -> PositionScores:
    """The scores at some rows [n], each as often as it is asked for."""
    found = {name: each for name in _RECORDED if (each := getattr(scores, name)) is not None}
    return PositionScores(**{name: each[rows] for name, each in found.items()})


@dataclass(frozen=True, slots=True)
class _Scored:
    """Scores of a batch, and the places [N] in the ledger that they are of."""

    places: npt.NDArray[np.int64]
    scores: Returning


@torch.inference_mode()
def _score_batch(
    language_model: LanguageModel,
    ledger: Ledger,
    batch: list[Window],
    in_front: tuple[int, ...],
    wanted: Wanted,
) -> _Scored:
    rows = [_inputs(ledger, window, in_front) for window in batch]
    hidden, starts = _hidden_states(language_model, rows)
    # Positions [N] among the batch's places that predict scored tokens, and the tokens' places.
    positions = np.concatenate(
        [
            start + np.arange(len(w) - w.n_scored, len(w))
            for start, w in zip(starts.tolist(), batch, strict=True)
        ]
    )
    # The last input of a window predicts the token after it.
    predicted = [np.arange(w.end - w.n_scored, w.end) + 1 - len(in_front) for w in batch]
    places = np.concatenate(
        [ledger.starts[w.text] + tokens for w, tokens in zip(batch, predicted, strict=True)]
    )
    device = language_model.device
    scores = score_positions(
        language_model.model,
        hidden[to_device(positions, device)],
        to_device(ledger.token_ids[places], device),
        wanted,
        to_device(ledger.recitable[places], device),
    )
    return _Scored(places, bring_back(scores))


def _inputs(ledger: Ledger, window: Window, in_front: tuple[int, ...]) -> TokenIds:
    """A window's tokens: what stands in front as far as it is in the window, then the text's own."""
    front = np.asarray(in_front[window.start :], np.int64)
    # The text's own tokens stand that many places later in the stream.
    first = ledger.starts[window.text] - len(in_front)
    return np.concatenate([front, ledger.token_ids[first + window.start + len(front) : first + window.end]])


def _hidden_states(
    language_model: LanguageModel, rows: Sequence[TokenIds]
) -> tuple[torch.Tensor, npt.NDArray[np.int64]]:
    """Last hidden states of rows of tokens: [places, H], and the place that each row begins at."""
    lengths = [len(row) for row in rows]
    if language_model.packs:
        token_ids = to_device(np.concatenate(rows), language_model.device)
        hidden = packed_hidden_states(language_model.model, token_ids, lengths)
        return hidden, np.concatenate(([0], np.cumsum(lengths[:-1], dtype=np.int64)))
    longest = max(lengths)
    inputs = np.full((len(rows), longest), language_model.padding_token_id, dtype=np.int64)
    for place, row in enumerate(rows):
        inputs[place, : len(row)] = row
    hidden = base_hidden_states(language_model.model, to_device(inputs, language_model.device))
    return hidden.flatten(0, 1), np.arange(len(rows)) * longest
