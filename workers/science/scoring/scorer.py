"""Scores of texts under one language model: one forward pass for likelihoods, recitation and evidence."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from workers.science.metrics.metric import MetricResult, Need
from workers.science.metrics.registry import METRICS
from workers.science.metrics.tokens import ScoredTokens
from workers.science.models.loading import LanguageModel
from workers.science.models.tokenization import count_tokens, tokenize
from workers.science.scoring.batching import Window
from workers.science.scoring.forward import Ledger, score_tokens
from workers.science.scoring.greedy import end_token_ids
from workers.science.scoring.likelihood import Wanted
from workers.science.scoring.plan import TextPlan, plan_text
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.recitation import Recitations
from workers.science.scoring.shots import score_after_shots
from workers.science.scoring.texts import ScoringOptions, TextInput, TextScore, TokenEvidence
from workers.science.scoring.vocabulary.sampling import Sampling
from workers.science.statistics.perplexity import perplexity

__all__ = ["ScoringOptions", "TextInput", "TextScore", "TokenEvidence", "count_tokens", "score_texts"]


def score_texts(
    language_model: LanguageModel,
    texts: Sequence[TextInput],
    options: ScoringOptions,
    *,
    on_progress: Callable[[int], None] | None = None,
) -> list[TextScore]:
    """Score texts under a language model.

    A text's numbers depend on its neighbours, their order and the batch size only by rounding (float32:
    below 1e-5 per token). On a CPU the same call gives the same bits again.

    Args:
        language_model: the model.
        texts: the texts.
        options: what to measure.
        on_progress: told how many texts are done, after each batch; may raise to stop the work.

    Returns:
        One score for each text, in order.

    Raises:
        PrefixTokenUnusable: see `resolve_prefix_token`.
        ScoreNotFinite: `log_likelihood_not_finite`, if the model gives NaN or infinity for a token.
    """
    prefix_token = resolve_prefix_token(options.prefix_token, language_model)
    tokenized = tokenize(language_model.tokenizer, [text.text for text in texts], options.special_tokens)
    plans = [
        plan_text(text, tokens, language_model, options, prefix_token)
        for text, tokens in zip(texts, tokenized, strict=True)
    ]
    end_tokens = end_token_ids(language_model)
    ledger = Ledger([plan.for_forward_pass() for plan in plans], end_tokens)
    recitations = Recitations(language_model, ledger, prefix_token, end_tokens)
    progress = _Progress(plans, recitations, on_progress or (lambda _: None))
    needs = options.needs
    score_tokens(
        language_model,
        ledger,
        prefix_token,
        wanted=Wanted(
            rank=options.token_evidence,
            choice=Need.CHOICES in needs,
            moments=options.token_evidence or Need.MOMENTS in needs,
            sampling=Sampling(options.temperature, options.top_k) if Need.SAMPLING in needs else None,
        ),
        batch_tokens=options.batch_tokens,
        on_batch=progress.count_windows,
    )
    recitations.finish(progress.count_texts)
    after_shots: list[npt.NDArray[np.float32]] = []
    if options.shots and Need.SHOTS in needs:
        after_shots = score_after_shots(
            language_model,
            [plan.for_forward_pass().token_ids for plan in plans],
            options.shots,
            prefix_token,
            special_tokens=options.special_tokens,
            batch_tokens=options.batch_tokens,
            on_batch=lambda: progress.count_texts(0),
        )
    found = _Found(ledger, recitations, after_shots)
    return [_assemble(index, plan, found, options) for index, plan in enumerate(plans)]


class _Found(NamedTuple):
    """What was found of the texts; `after_shots` by text, empty if there are no shots."""

    ledger: Ledger
    recitations: Recitations
    after_shots: list[npt.NDArray[np.float32]]


class _Progress:
    """Counts the texts that are done, and begins the recitation of those whose windows are scored."""

    def __init__(
        self,
        plans: list[TextPlan],
        recitations: Recitations,
        on_progress: Callable[[int], None],
    ) -> None:
        self._plans = plans
        self._recitations = recitations
        self._on_progress = on_progress
        self._windows_left = [plan.n_windows for plan in plans]
        self._n_done = self._windows_left.count(0)

    def count_windows(self, windows: list[Window]) -> None:
        n_done = 0
        for window in windows:
            self._windows_left[window.text] -= 1
            if self._windows_left[window.text] == 0:
                split = self._plans[window.text].continued
                n_done += not split.applicable or self._recitations.begin(window.text, split)
        self.count_texts(n_done)

    def count_texts(self, n_done: int) -> None:
        self._n_done += n_done
        self._on_progress(self._n_done)


def _assemble(index: int, plan: TextPlan, found: _Found, options: ScoringOptions) -> TextScore:
    ledger = found.ledger
    if plan.error is not None:
        return TextScore(plan.n_tokens, plan.n_bytes, error=plan.error)
    place = ledger.of(index)
    log_likelihood = float(ledger.log_likelihood[place].sum(dtype=np.float64))
    nl = log_likelihood / plan.n_tokens
    evidence = None
    if options.token_evidence:
        sampled = Need.SAMPLING in options.needs
        evidence = TokenEvidence(
            token_ids=plan.tokens.token_ids.astype(np.int32),
            log_likelihood=ledger.log_likelihood[place].copy(),
            rank=ledger.rank[place].copy(),
            mean=ledger.mean[place].copy(),
            deviation=ledger.deviation[place].copy(),
            sampling_log_likelihood=ledger.sampling_log_likelihood[place].copy() if sampled else None,
            offsets=plan.tokens.offsets,
        )
        if plan.n_tokens < len(evidence.token_ids):
            evidence.log_likelihood[0] = np.nan  # nothing stands before the first token
    return TextScore(
        n_tokens=plan.n_tokens,
        n_bytes=plan.n_bytes,
        n_windows=max(1, plan.n_windows),
        log_likelihood=log_likelihood,
        nl=nl,
        nl_byte=log_likelihood / plan.n_bytes,
        perplexity=perplexity(nl),
        metrics=_metrics(index, plan, found, options),
        evidence=evidence,
    )


def _metrics(index: int, plan: TextPlan, found: _Found, options: ScoringOptions) -> dict[str, MetricResult]:
    ledger = found.ledger
    place = ledger.of(index)
    tokens = ScoredTokens(
        text=plan.text,
        token_ids=ledger.token_ids[place],
        log_likelihood=ledger.log_likelihood[place],
        n_scored=plan.n_tokens,
        chosen=ledger.choice[place] == ledger.token_ids[place],
        ends=ledger.ends[place],
        mean=ledger.mean[place],
        deviation=ledger.deviation[place],
        sampling_log_likelihood=ledger.sampling_log_likelihood[place],
        continuation=found.recitations.said.get(index),
        # A text that stands before itself is said again, whether or not it was seen in training.
        after_shots=None if plan.text in options.shots or not found.after_shots else found.after_shots[index],
        min_k=options.min_k,
    )
    return {
        name: metric.compute(tokens, plan.splits[name])
        for name, metric in METRICS.items()
        if name in options.metrics
    }
