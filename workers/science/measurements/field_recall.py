"""`field_recall`: whether greedy decoding says an attribute of somebody after prompts that name it.

Source: HUBBLE (arXiv 2510.19811), its generative tasks of biographies (`yago_hubble_gen`, `ecthr_hubble_gen`)
and of PopQA: greedy, 30 tokens, SQuAD-normalised F1 and recall, prefix match. What was said is not kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from workers.science.measurements.measurement import MeasuredText, Measurement, OnProgress, Subject
from workers.science.measurements.metadata import (
    AskedCounts,
    AskedStatus,
    MetadataMalformed,
    asked_of,
    read_asked,
    string,
    strings,
)
from workers.science.measurements.words import agreement, normalized_words
from workers.science.metrics.metric import MetricResult
from workers.science.models.tokenization import tokenize, within_vocabulary

NAME: Final = "field_recall"
# HUBBLE's prefixes: the text before the field, its first sentence, the name alone.
PROMPTS: Final = ("full", "intro", "name_only")
_FIELDS: Final = frozenset({"prompts", "answer", "stop", "tokens"})
_STOP: Final = ("\n",)
_TOKENS: Final = 30
_MOST_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Field:
    """An attribute to be said.

    Attributes:
        prompts: by kind, what is asked.
        answer: what should be said; it has a word.
        stop: strings at which what is said is cut.
        tokens: how many are decoded at most.
    """

    prompts: dict[str, str]
    answer: str
    stop: tuple[str, ...] = _STOP
    tokens: int = _TOKENS


def field_of(text: MeasuredText) -> Field | None:
    """The attribute that a text asks for; None if it asks for none.

    Raises:
        MetadataMalformed: the metadata asks in a form that is none.
    """
    asked = asked_of(text, NAME, _FIELDS)
    if asked is None:
        prefix, suffix = text.text.prefix, text.text.suffix
        if not prefix or not suffix or not normalized_words(suffix):
            return None
        return Field({"full": prefix}, suffix)
    prompts, tokens = asked.get("prompts"), asked.get("tokens", _TOKENS)
    if not isinstance(prompts, dict) or not prompts or prompts.keys() - set(PROMPTS):
        raise MetadataMalformed
    if isinstance(tokens, bool) or not isinstance(tokens, int) or not 1 <= tokens <= _MOST_TOKENS:
        raise MetadataMalformed
    answer = string(asked, "answer")
    if not normalized_words(answer):
        raise MetadataMalformed
    return Field(
        {kind: string(prompts, kind) for kind in prompts}, answer, strings(asked, "stop", _STOP), tokens
    )


def _cut(said: str, stop: Sequence[str]) -> str:
    for mark in stop:
        said = said.partition(mark)[0]
    return said


def _measure(
    subject: Subject, texts: Sequence[MeasuredText], on_progress: OnProgress
) -> list[MetricResult | None]:
    statuses, fields = read_asked(texts, field_of)
    found: list[MetricResult | None] = [_result(status, {}) for status in statuses]
    asked = [(place, kind) for place, field in fields.items() for kind in field.prompts]
    said = _say(subject, [(fields[place], kind) for place, kind in asked], len(texts), on_progress)
    by_place: dict[int, dict[str, Any]] = {place: {} for place in fields}
    for (place, kind), continuation in zip(asked, said, strict=True):
        by_place[place][kind] = _judged(fields[place], continuation)
    for place, prompts in by_place.items():
        found[place] = _result("ok", prompts)
    return found


def _say(
    subject: Subject, asked: Sequence[tuple[Field, str]], n_texts: int, on_progress: OnProgress
) -> list[str | None]:
    """What greedy decoding says after each prompt; None where the prompt has no tokens, or does not fit."""
    from workers.science.scoring.greedy import Prompt, continue_greedily  # noqa: PLC0415 - brings torch

    language_model = subject.language_model
    in_front = np.asarray(subject.prefix_token.in_front, dtype=np.int64)
    tokenized = tokenize(
        language_model.tokenizer,
        [field.prompts[kind] for field, kind in asked],
        subject.scoring.special_tokens,
    )
    prompts: dict[int, Prompt] = {}
    for place, ((field, _), tokens) in enumerate(zip(asked, tokenized, strict=True)):
        # The last new token is never fed back. A prompt that is too long is cut from the left.
        room = language_model.context_length + 1 - field.tokens - len(in_front)
        token_ids = np.concatenate((in_front, tokens.token_ids[-room:] if room > 0 else tokens.token_ids))
        if room > 0 and len(token_ids) and within_vocabulary(token_ids, language_model.vocabulary_size):
            prompts[place] = Prompt(token_ids, field.tokens)
    done = 0

    def count(n: int) -> None:
        nonlocal done
        done += n
        on_progress(done * n_texts // len(prompts))

    said: list[str | None] = [None] * len(asked)
    continuations = continue_greedily(language_model, list(prompts.values()), count)
    for place, token_ids in zip(prompts, continuations, strict=True):
        decoded = language_model.tokenizer.decode(token_ids.tolist(), skip_special_tokens=True)
        said[place] = _cut(decoded, asked[place][0].stop)
    return said


def _judged(field: Field, said: str | None) -> MetricResult:
    if said is None:
        return {"status": "unscorable", "f1": None, "recall": None, "prefix_match": None}
    return {"status": "ok", **agreement(said, field.answer)}


def _result(status: AskedStatus, prompts: dict[str, Any]) -> MetricResult:
    return {"status": status, **{kind: prompts.get(kind) for kind in PROMPTS}}


MEASUREMENT: Final = Measurement(name=NAME, measure=_measure, summary=AskedCounts)
