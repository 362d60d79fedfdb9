"""A lower bound on the probability that one sample says a suffix nearly: beams that may still come close.

Source: Cooper et al., arXiv 2603.24917 (decoding-constrained beam search): the probabilities of the outputs
found, all of them different, add up to no more than the probability of the whole event. Here the last token
needs no beams: all that leave the output close enough are summed.

Shapes: B beams of a text, V vocabulary, L tokens of the suffix.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import logsumexp
from torch import Tensor

from workers.science.metrics.tokens import TokenIds
from workers.science.models.loading import LanguageModel
from workers.science.passages.edits import Rows, first_row, least_distance, next_rows
from workers.science.scoring.batching import map_on_cores
from workers.science.scoring.greedy import end_token_ids, rows_decoded_at_once
from workers.science.scoring.vocabulary.head import project_to_vocabulary
from workers.science.scoring.vocabulary.sampling import Sampling, drawn_log_probabilities

# 1 - similarity is a share of tokens; what rounding makes of it must not cost an edit.
_ROUNDING: Final = 1e-9

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recital:
    """A prompt, int64 [n], and the suffix, int64 [L], that may follow it; together they fit the context."""

    prompt: TokenIds
    suffix: TokenIds


@dataclass(frozen=True, slots=True)
class NearVerbatim:
    """How likely one sample comes close to a suffix.

    Attributes:
        distance: Levenshtein distance in tokens that still is close.
        log_p: lower bound on the natural logarithm of the probability, at most 0; -inf if nothing was found.
        log_p_z: of the exact suffix alone, at most `log_p`; -inf if it is never said.
    """

    distance: int
    log_p: float
    log_p_z: float


def largest_distance(suffix_tokens: int, similarity: float) -> int:
    """The Levenshtein distance at which 1 - distance / L is still at least `similarity`."""
    return int((1 - similarity) * suffix_tokens + _ROUNDING)


def near_verbatim(
    language_model: LanguageModel,
    recitals: Sequence[Recital],
    sampling: Sampling,
    *,
    similarity: float,
    beams: int,
    on_batch: Callable[[int], None],
) -> list[NearVerbatim]:
    """Bound the probability that one sample after each prompt comes close to its suffix.

    The event: the client's decoding draws tokens until there are L, or until it draws an end token, which
    is part of the output; the output's similarity to the suffix, 1 - (Levenshtein distance in tokens) / L, is
    at least `similarity`. The exact suffix is always among the beams. One text costs the pass over its prompt
    and L - 1 passes over one token of each beam.

    Args:
        language_model: the model.
        recitals: the prompts and suffixes.
        sampling: the client's decoding.
        similarity: in [0, 1]; 1 for the exact suffix.
        beams: partial outputs that are kept of each text, the likeliest that may still come close.
        on_batch: told the number of texts in each batch that is done; may raise to stop.
    """
    end_tokens = end_token_ids(language_model)
    batches = _batches(recitals, max(1, rows_decoded_at_once(language_model.device) // beams))
    found: dict[int, NearVerbatim] = {}
    results = map_on_cores(
        lambda batch: _search_batch(
            language_model,
            [recitals[place].prompt for place in batch],
            [_Beams(recitals[place].suffix, similarity, beams, end_tokens) for place in batch],
            sampling,
        ),
        batches,
        language_model.device,
    )
    for batch, bounds in zip(batches, results, strict=True):
        found.update(zip(batch, bounds, strict=True))
        on_batch(len(batch))
    return [found[place] for place in range(len(recitals))]


def _batches(recitals: Sequence[Recital], most: int) -> list[list[int]]:
    """Texts that are split alike, so that none needs padding."""
    alike: dict[tuple[int, int], list[int]] = {}
    for place, recital in enumerate(recitals):
        alike.setdefault((len(recital.prompt), len(recital.suffix)), []).append(place)
    return [places[at : at + most] for places in alike.values() for at in range(0, len(places), most)]


@torch.inference_mode()
def _search_batch(
    language_model: LanguageModel, prompts: Sequence[TokenIds], texts: Sequence["_Beams"], sampling: Sampling
) -> list[NearVerbatim]:
    model, device = language_model.model, language_model.device
    inputs = torch.from_numpy(np.stack(prompts)).to(device)
    cache: Any = None
    while True:
        output = model.base_model(input_ids=inputs, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        log_p = drawn_log_probabilities(
            project_to_vocabulary(model, output.last_hidden_state[:, -1]), sampling
        )
        bounds = np.concatenate(([0], np.cumsum([len(text) for text in texts])))
        parents = np.concatenate(
            [
                start + text.grow(log_p[start:stop])
                for text, (start, stop) in zip(texts, pairwise(bounds), strict=True)
            ]
        )
        if len(parents) == 0:
            return [text.result() for text in texts]
        cache.reorder_cache(torch.from_numpy(parents).to(device))
        inputs = torch.from_numpy(np.concatenate([text.last_tokens for text in texts])[:, None]).to(device)


class _Beams:
    """The outputs of one text that may still come close to its suffix, and what was found of those that did.

    Attributes:
        last_tokens: int64 [B], the last token of each beam.
    """

    def __init__(self, suffix: TokenIds, similarity: float, beams: int, end_tokens: frozenset[int]) -> None:
        self.last_tokens = np.empty(0, dtype=np.int64)
        self._suffix = suffix
        self._distance = largest_distance(len(suffix), similarity)
        self._most = beams
        self._end_tokens = np.array(sorted(end_tokens), dtype=np.int64)
        self._early_stop = int(not np.isin(suffix, self._end_tokens).any())
        self._n_tokens = 0
        self._log_p: Floats = np.zeros(1)
        self._rows: Rows = first_row(len(suffix))[None]
        self._exact = np.ones(1, dtype=np.bool_)
        self._found: list[Floats] = []
        self._log_p_z = -np.inf

    def __len__(self) -> int:
        return len(self._log_p)

    def result(self) -> NearVerbatim:
        """What was found when no beam is left."""
        found = np.concatenate([*self._found, np.full(1, -np.inf)])
        log_p = float(logsumexp(found)) if np.isfinite(found).any() else -np.inf
        # Rounding of a float32 softmax may leave a sum that is a little above one.
        return NearVerbatim(self._distance, min(0.0, log_p), min(0.0, self._log_p_z))

    def grow(self, log_p: Tensor) -> npt.NDArray[np.int64]:
        """Grow the beams by a token each, and keep the likeliest that may still come close.

        Args:
            log_p: of each token after each beam under the client's decoding, float32 [B, V].

        Returns:
            The beam that each of the new ones grew from; none when all outputs are complete.
        """
        if len(self) == 0:
            return np.empty(0, dtype=np.int64)
        at = self._n_tokens
        self._n_tokens += 1
        # Only these can lie on a path of few edits; all other tokens leave the same row.
        near = self._suffix[max(0, at - self._distance) : at + self._distance + 1]
        named = np.unique(np.concatenate((near, self._end_tokens)))
        log_named = self._log_p[:, None] + _to_numpy(log_p[:, torch.from_numpy(named).to(log_p.device)])
        log_others = log_p.index_fill(1, torch.from_numpy(named).to(log_p.device), -torch.inf)
        rows_named = next_rows(self._rows[:, None], named[None, :, None] == self._suffix)
        rows_others = next_rows(self._rows, np.zeros(len(self._suffix), dtype=np.bool_))
        if self._n_tokens == len(self._suffix):
            return self._complete(log_named, rows_named, log_others, rows_others, named)
        return self._continue(log_named, rows_named, log_others, rows_others, named)

    def _complete(
        self, log_named: Floats, rows_named: Rows, log_others: Tensor, rows_others: Rows, named: TokenIds
    ) -> npt.NDArray[np.int64]:
        """Sum all last tokens that leave an output close enough."""
        self._found.append(log_named[rows_named[..., -1] <= self._distance])
        others = self._log_p + _to_numpy(log_others.logsumexp(-1))
        self._found.append(others[rows_others[:, -1] <= self._distance])
        self._log_p_z = (
            float(log_named[self._exact][:, named == self._suffix[-1]].sum())
            if self._exact.any()
            else -np.inf
        )
        self._log_p = self._log_p[:0]
        return np.empty(0, dtype=np.int64)

    def _continue(
        self, log_named: Floats, rows_named: Rows, log_others: Tensor, rows_others: Rows, named: TokenIds
    ) -> npt.NDArray[np.int64]:
        """Count the outputs that end here, and choose among those that go on."""
        ends = np.isin(named, self._end_tokens)
        self._found.append(log_named[:, ends][rows_named[:, ends, -1] <= self._distance])
        log_named[:, ends] = -np.inf
        log_named[self._least(rows_named) > self._distance] = -np.inf
        # No more than these can be among the likeliest beams.
        likely = log_others.topk(min(self._most, log_others.shape[1]))
        log_likely = self._log_p[:, None] + _to_numpy(likely.values)
        log_likely[self._least(rows_others) > self._distance] = -np.inf

        log_p = np.concatenate((log_named.ravel(), log_likely.ravel()))
        parents = np.repeat(np.arange(len(self)), len(named))
        parents = np.concatenate((parents, np.repeat(np.arange(len(self)), log_likely.shape[1])))
        tokens = np.concatenate((np.tile(named, len(self)), likely.indices.cpu().numpy().ravel()))
        exact = self._exact[parents] & (tokens == self._suffix[self._n_tokens - 1])

        order = np.argsort(-np.where(exact, np.inf, log_p), kind="stable")
        chosen = order[: self._most]
        chosen = chosen[np.isfinite(log_p[chosen])]
        # A row of each chosen output only: one of each candidate would take gigabytes with many beams.
        rows = rows_others[parents[chosen]]
        of_named = chosen < log_named.size
        rows[of_named] = rows_named.reshape(-1, rows_named.shape[-1])[chosen[of_named]]
        self._log_p, self._rows, self._exact = log_p[chosen], rows, exact[chosen]
        self.last_tokens = tokens[chosen]
        return parents[chosen]

    def _least(self, rows: Rows) -> npt.NDArray[np.int64]:
        return least_distance(rows, self._n_tokens, last=self._early_stop)


def _to_numpy(numbers: Tensor) -> Floats:
    return numbers.double().cpu().numpy()
