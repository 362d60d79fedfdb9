"""Everything that is drawn before training: held-out texts, tokenizer, sequences with and without insertions.

Each part draws from its own stream of the seed, so that changing one plan leaves the others as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np

from workers.suite import biographies, multiple_choice
from workers.suite.corpus import Corpus, decontaminate, hold_out
from workers.suite.errors import CorpusTooSmall
from workers.suite.plan import (
    WHOLE_RUN,
    Insertion,
    Tokens,
    Window,
    assign,
    insert,
    pack,
    thin,
    window_sequences,
)
from workers.suite.sizes import Levels, Size
from workers.suite.texts import BackgroundText, Draft, SuiteText
from workers.suite.tokenizer import train_tokenizer

PASSAGES = "copyright/passages"
CLEAN = "clean"
CALIBRATION = "background"
# Held-out documents beyond those needed, for the ones that yield no passage.
_SPARE_DOCUMENTS = 1.25
_TOKENIZED_TOGETHER = 1000


@dataclass(frozen=True)
class Prepared:
    """The data of a suite, before any model is trained."""

    tokenizer: Any
    texts: tuple[SuiteText, ...]
    text_tokens: tuple[Tokens, ...]
    clean: tuple[SuiteText, ...]
    calibration: tuple[BackgroundText, ...]
    documents: tuple[Tokens, ...]  # what the background is packed from
    background: Tokens  # int32 [sequences, context + 1]

    @property
    def corpus_tokens(self) -> int:
        """Tokens of one pass over the documents, end-of-text included."""
        return sum(document.size + 1 for document in self.documents)


@dataclass(frozen=True)
class Perturbed:
    """The sequences of one perturbed run, and what was inserted where."""

    texts: tuple[SuiteText, ...]
    sequences: Tokens
    insertions: tuple[Insertion, ...]
    inserted_tokens: int  # without the end-of-text tokens


def prepare(corpus: Corpus, size: Size, seed: int) -> Prepared:
    """Draw the texts, train the tokenizer and pack the background.

    Raises:
        CorpusTooSmall: if the corpus has too few long documents.
    """
    held_out_rng, level_rng, order_rng, calibration_rng = np.random.default_rng([seed, 0]).spawn(4)
    people, items = Random(f"biographies {seed}"), Random(f"items {seed}")
    needed = sum(size.levels.values())

    shuffled = [corpus.documents[i] for i in held_out_rng.permutation(len(corpus.documents))]
    held_out = hold_out(
        shuffled,
        count=int(needed * _SPARE_DOCUMENTS) + size.clean_documents,
        least_characters=size.document_characters,
    )
    background = decontaminate(corpus.documents, held_out)
    tokenizer = train_tokenizer(background, size.vocabulary, size.context)
    tokens = tokenize(tokenizer, background)
    if not tokens:
        raise CorpusTooSmall("Nothing of the corpus is left to train on. Give a larger one with --corpus.")

    clean, sources = held_out[: size.clean_documents], held_out[size.clean_documents :]
    drafts = {
        PASSAGES: draft_passages(sources, needed, tokenizer, size),
        biographies.GROUP: biographies.draft_biographies(needed, people),
        multiple_choice.GROUP: multiple_choice.draft_items(needed, items),
    }
    texts = [text for group in drafts for text in assign(group, drafts[group], size.levels, level_rng)]
    return Prepared(
        tokenizer=tokenizer,
        texts=tuple(texts),
        text_tokens=tuple(tokenize(tokenizer, [text.text for text in texts])),
        clean=tuple(assign(CLEAN, [Draft(text) for text in clean], {0: len(clean)}, level_rng)),
        calibration=sample_background(background, size.calibration_documents, calibration_rng),
        documents=tuple(tokens),
        background=pack(tokens, size.sequences, size.context + 1, tokenizer.eos_token_id, order_rng),
    )


def dilute(prepared: Prepared, size: Size, seed: int) -> Prepared:
    """The same data with a background of another length, in an order of its own.

    A corpus too short for it is passed over more often.

    Args:
        prepared: the data of the suite.
        size: the plan, with the steps of the diluted run.
        seed: the seed of the suite.
    """
    rng = np.random.default_rng([seed, 2])
    end_of_text = prepared.tokenizer.eos_token_id
    background = pack(prepared.documents, size.sequences, size.context + 1, end_of_text, rng)
    return replace(prepared, background=background)


def sample_background(
    documents: Sequence[str], count: int, rng: np.random.Generator
) -> tuple[BackgroundText, ...]:
    """Documents that both models were trained on, drawn without replacement: what edits learn from."""
    return tuple(
        BackgroundText(f"{CALIBRATION}-{number:04}", CALIBRATION, documents[index])
        for number, index in enumerate(rng.permutation(len(documents))[:count])
    )


def perturb(
    prepared: Prepared, size: Size, seed: int, *, levels: Levels | None = None, window: Window = WHOLE_RUN
) -> Perturbed:
    """Insert the texts into a copy of the background.

    Args:
        prepared: the data of the suite.
        size: the plan.
        seed: the seed of the suite.
        levels: a smaller plan than the size's own, for timing runs.
        window: the part of the training that takes insertions.

    Raises:
        TextTooLong: if a text does not fit into a sequence.
        PlanTooLarge: if the window has fewer sequences than there are copies.
    """
    rng = np.random.default_rng([seed, 1])
    texts = prepared.texts if levels is None else tuple(thin(prepared.texts, levels))
    sequences, insertions = insert(
        prepared.background,
        prepared.text_tokens,
        [text.duplicates for text in texts],
        allowed=window_sequences(window, size.steps, size.batch),
        end_of_text=prepared.tokenizer.eos_token_id,
        rng=rng,
    )
    inserted = sum(prepared.text_tokens[insertion.text].size for insertion in insertions)
    return Perturbed(texts, sequences, tuple(insertions), inserted)


def tokenize(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """The tokens of each text, without special ones."""
    return [
        np.asarray(encoding.ids, dtype=np.int32)
        for first in range(0, len(texts), _TOKENIZED_TOGETHER)
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(
            texts[first : first + _TOKENIZED_TOGETHER], add_special_tokens=False
        )
    ]


def draft_passages(documents: Sequence[str], count: int, tokenizer: Any, size: Size) -> list[Draft]:
    """Cut one passage from each held-out document: its beginning, at least `passage_tokens` long.

    Raises:
        CorpusTooSmall: if fewer than `count` documents yield one.
    """
    passages = [
        passage for document in documents if (passage := cut_passage(document, tokenizer, size)) is not None
    ][:count]
    if len(passages) < count:
        raise CorpusTooSmall(
            f"Only {len(passages)} of the {count} passages fit the context of {size.context} tokens. "
            "Give another corpus with --corpus, or train a size with a longer context."
        )
    return [Draft(passage) for passage in passages]


def cut_passage(document: str, tokenizer: Any, size: Size) -> str | None:
    """The shortest beginning of a document that ends with a word and has `passage_tokens` tokens or more.

    None if there is none, or if it leaves no room for the end-of-text tokens around it.
    """
    encoding = tokenizer.backend_tokenizer.encode(document, add_special_tokens=False)
    for _, end in encoding.offsets[size.passage_tokens - 1 : size.context - 1]:
        if end < len(document) and not document[end].isspace():
            continue
        passage = document[:end].rstrip()
        tokens = len(tokenizer.backend_tokenizer.encode(passage, add_special_tokens=False).ids)
        if size.passage_tokens <= tokens < size.context:
            return passage
    return None
