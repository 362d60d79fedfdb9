"""Everything that is drawn before training: held-out texts, tokenizer, sequences with and without insertions.

Each part draws from its own stream of the seed, so that changing one plan leaves the others as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np

from workers.suite import biographies, multiple_choice
from workers.suite.capabilities import draw_capabilities, held_out_texts
from workers.suite.corpus import Corpus, decontaminate, hold_out
from workers.suite.errors import CorpusTooSmall, PlantRejected, TextTooLong
from workers.suite.paraphrases import paraphrases
from workers.suite.plan import (
    AROUND,
    Insertion,
    Tokens,
    assign,
    insert,
    pack,
    thin,
    window_sequences,
)
from workers.suite.planting import Plant
from workers.suite.sizes import Size
from workers.suite.texts import BackgroundText, Draft, SuiteText
from workers.suite.tokenizer import train_tokenizer
from workers.suite.variants import Insertions, domain_of

PASSAGES = "copyright/passages"
CLEAN = "clean"
CALIBRATION = "background"
# Held-out documents beyond those needed, for the ones that yield no passage.
_SPARE_DOCUMENTS = 1.25
_TOKENIZED_TOGETHER = 1000
# Wordings drawn beyond twice those needed, for the ones that do not fit into a sequence.
_SPARE_WORDINGS = 64


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
    capabilities: tuple[SuiteText, ...] = ()  # held-out items of each task
    items: int = 0  # how many of the documents, the last ones, teach a task

    @property
    def item_tokens(self) -> int:
        """Tokens of the documents that teach a task, end-of-text included."""
        taught = self.documents[len(self.documents) - self.items :]
        return sum(document.size + 1 for document in taught)

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


def prepare(corpus: Corpus, size: Size, seed: int, plant: Plant | None = None) -> Prepared:
    """Draw the texts, train the tokenizer and pack the background.

    Raises:
        CorpusTooSmall: if the corpus has too few long documents.
        PlantRejected: if a planted text has the id of one of the suite's.
        TextTooLong: if a planted text does not fit into a sequence.
    """
    planted = plant.texts if plant else ()
    held_out_rng, level_rng, order_rng, calibration_rng = np.random.default_rng([seed, 0]).spawn(4)
    people, items = Random(f"biographies {seed}"), Random(f"items {seed}")
    needed = sum(size.levels.values())

    shuffled = [corpus.documents[i] for i in held_out_rng.permutation(len(corpus.documents))]
    held_out = hold_out(
        decontaminate(shuffled, [text.text for text in planted]) if planted else shuffled,
        count=int(needed * _SPARE_DOCUMENTS) + size.clean_documents,
        least_characters=size.document_characters,
    )
    lessons = draw_capabilities(size.lessons, Random(f"capabilities {seed}"))
    taught = [item.document for drawn in lessons.values() for item in drawn.trained]
    background = decontaminate(corpus.documents, [*held_out, *(text.text for text in planted)])
    if not background:
        raise CorpusTooSmall("Nothing of the corpus is left to train on. Give a larger one with --corpus.")
    background += taught
    tokenizer = train_tokenizer(background, size.vocabulary, size.context)
    tokens = tokenize(tokenizer, background)

    clean, sources = held_out[: size.clean_documents], held_out[size.clean_documents :]
    drafts = {
        PASSAGES: draft_passages(sources, needed, tokenizer, size),
        biographies.GROUP: biographies.draft_biographies(needed, people),
        multiple_choice.GROUP: multiple_choice.draft_items(needed, items),
    }
    texts = [text for group in drafts for text in assign(group, drafts[group], size.levels, level_rng)]
    if plant:
        check_ids(plant, texts)
        texts += planted
    text_tokens = tokenize(tokenizer, [text.text for text in texts])
    if plant:
        check_lengths(plant, text_tokens[-len(planted) :], size.context)
    return Prepared(
        tokenizer=tokenizer,
        texts=tuple(texts),
        text_tokens=tuple(text_tokens),
        clean=tuple(assign(CLEAN, [Draft(text) for text in clean], {0: len(clean)}, level_rng)),
        calibration=sample_background(background, size.calibration_documents, calibration_rng),
        documents=tuple(tokens),
        background=pack(tokens, size.sequences, size.context + 1, tokenizer.eos_token_id, order_rng),
        capabilities=tuple(held_out_texts(lessons)),
        items=len(taught),
    )


def sample_background(
    documents: Sequence[str], count: int, rng: np.random.Generator
) -> tuple[BackgroundText, ...]:
    """Documents that both models were trained on, drawn without replacement: what edits learn from."""
    return tuple(
        BackgroundText(f"{CALIBRATION}-{number:04}", CALIBRATION, documents[index])
        for number, index in enumerate(rng.permutation(len(documents))[:count])
    )


def perturb(prepared: Prepared, plan: Insertions, seed: int) -> Perturbed:
    """Insert the texts into a copy of the background, or into the longer one of a diluted run.

    Args:
        prepared: the data of the suite.
        plan: what is inserted, how often and when.
        seed: the seed of the suite.

    Raises:
        TextTooLong: if a text does not fit into a sequence.
        PlanTooLarge: if the window has fewer sequences than there are copies.
    """
    size = plan.size
    texts = prepared.texts if plan.levels is None else tuple(thin(prepared.texts, plan.levels))
    wordings, copies = _wordings(prepared, texts, plan, seed)
    background = prepared.background
    if background.shape[0] != size.sequences:
        background = _pack_again(prepared, size, seed)
    sequences, insertions = insert(
        background,
        wordings,
        copies,
        allowed=window_sequences(plan.window, size.steps, size.batch),
        end_of_text=prepared.tokenizer.eos_token_id,
        rng=np.random.default_rng([seed, 1]),
    )
    inserted = sum(wordings[insertion.text].size for insertion in insertions)
    return Perturbed(texts, sequences, tuple(insertions), inserted)


def _wordings(
    prepared: Prepared, texts: Sequence[SuiteText], plan: Insertions, seed: int
) -> tuple[list[Tokens], list[int]]:
    """What is inserted, in the order of the texts, and how often: a text in its own words or in others."""
    wordings: list[Tokens] = []
    copies: list[int] = []
    for text, tokens in zip(texts, prepared.text_tokens, strict=True):
        others = reword(prepared, text, seed)[1:] if plan.paraphrased and text.duplicates else []
        wordings += [tokens for _, tokens in others] or [tokens]
        inserted = text.duplicates if plan.domain in (None, domain_of(text.group)) else 0
        n = len(others) or 1
        copies += [inserted // n + (place < inserted % n) for place in range(n)]
    return wordings, copies


def reword(prepared: Prepared, text: SuiteText, seed: int) -> list[tuple[str, Tokens]]:
    """Other wordings of a text that fit into a sequence: one that is held out, then one for each copy.

    Fewer if there are not as many; none if the text cannot be reworded.
    """
    others = paraphrases(text, _SPARE_WORDINGS + 2 * (text.duplicates + 1), seed)
    room = prepared.background.shape[1] - AROUND
    pairs = zip(others, tokenize(prepared.tokenizer, others), strict=True)
    return [pair for pair in pairs if pair[1].size <= room][: text.duplicates + 1]


def _pack_again(prepared: Prepared, size: Size, seed: int) -> Tokens:
    """A background of another length, in an order of its own; a short corpus is passed over more often."""
    rng = np.random.default_rng([seed, 2])
    end_of_text = prepared.tokenizer.eos_token_id
    return pack(prepared.documents, size.sequences, size.context + 1, end_of_text, rng)


def check_ids(plant: Plant, texts: Sequence[SuiteText]) -> None:
    """Refuse planted texts that have the id of one of the suite's.

    Raises:
        PlantRejected: with the number of the line.
    """
    taken = {text.id for text in texts}
    for text, line in zip(plant.texts, plant.lines, strict=True):
        if text.id in taken:
            raise PlantRejected(f"{plant.name}, line {line}: the id is one of the suite's own.")


def check_lengths(plant: Plant, tokens: Sequence[Tokens], context: int) -> None:
    """Refuse planted texts that do not fit into a sequence between two end-of-text tokens.

    Raises:
        TextTooLong: with the number of the line.
    """
    most = context + 1 - AROUND
    for text, line in zip(tokens, plant.lines, strict=True):
        if text.size > most:
            raise TextTooLong(
                f"{plant.name}, line {line}: the text has {text.size} tokens, and a sequence takes at most "
                f"{most}. Shorten it, or train a size with a longer context."
            )


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
