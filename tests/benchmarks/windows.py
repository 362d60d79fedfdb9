"""Does `windows` find what was planted, what does it cost, and do near-verbatim bounds hold on a suite?

    python -m tests.benchmarks.windows SUITE [--documents 50] [--samples 20000]

Documents of at least 5,000 tokens are made of the paragraphs of the suite's clean texts. In half of them a
text that was inserted 256 times stands at a random place: in every second one between two paragraphs, in the
others between two lines of a paragraph. Half as many documents more have two such texts, at places of both
kinds. The cost is that of `windows` over the NL pass of the same documents, one after the other, on one
thread. The bounds are compared with independent samples. Exits with 1 where a line misses its limit.
"""

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rapidfuzz.distance import Levenshtein
from scipy.stats import binomtest

from workers.science.measurements.measurement import MeasuredText, Subject
from workers.science.measurements.near_verbatim import measure_near_verbatim
from workers.science.measurements.options import MeasurementOptions, NearVerbatimOptions
from workers.science.measurements.windows import measure_windows
from workers.science.models.loading import LanguageModel, load_language_model
from workers.science.models.tokenization import count_tokens, tokenize
from workers.science.scoring.prefix_token import resolve_prefix_token
from workers.science.scoring.scorer import ScoringOptions, TextInput, score_texts

DOCUMENT_TOKENS = 5000
MOST_DUPLICATES = 256
# Of a document's NL pass.
MOST_PASSES = 3
SEPARATOR = "\n\n"
PLAIN = ScoringOptions(metrics=frozenset(), prefix_token="eos", token_evidence=False)
# Inserted so often that many of them are recited.
OFTEN = 16
ROWS = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--documents", type=int, default=50)
    parser.add_argument("--texts", type=int, default=20)
    parser.add_argument("--samples", type=int, default=20_000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    language_model = load_language_model(arguments.suite / "perturbed", device="cpu")
    subject = Subject(
        language_model=language_model,
        prefix_token=resolve_prefix_token("eos", language_model),
        scoring=PLAIN,
        options=MeasurementOptions(),
    )
    texts = read(arguments.suite / "texts.jsonl")
    clean = [text["text"] for text in read(arguments.suite / "clean.jsonl")]
    held: list[bool] = []
    if arguments.documents:
        held += measure_documents(subject, texts, clean, arguments.documents)
    if arguments.texts:
        held += measure_bounds(subject, texts, arguments.texts, arguments.samples)
    sys.exit(not all(held))


def limit(line: str, *, held: bool) -> bool:
    print(line if held else f"{line}  MISSED")
    return held


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass(slots=True)
class Tally:
    """What was found of so many plants, in how many documents nothing else was, and the seconds it took."""

    documents: int = 0
    plants: int = 0
    found: int = 0
    exact: int = 0
    nothing_else: int = 0
    plain_seconds: float = 0.0
    own_seconds: float = 0.0


def measure_documents(
    subject: Subject, texts: Sequence[dict[str, Any]], clean: Sequence[str], documents: int
) -> list[bool]:
    generator = random.Random(20)
    paragraphs = [paragraph for text in clean for paragraph in text.split(SEPARATOR) if paragraph.strip()]
    often = [text["text"] for text in texts if text["duplicates"] == MOST_DUPLICATES]
    # A text that begins with blanks shares a token with the break before it: no span of tokens is exact.
    planted = [text for text in often if text[0].strip()]
    print(f"texts inserted {MOST_DUPLICATES} times: {len(often)}, left out {len(often) - len(planted)}")
    tokens = dict(zip(paragraphs, count_tokens(subject.language_model, paragraphs), strict=True))
    tallies = {name: Tally() for name in ("between paragraphs", "within a paragraph", "two", "none")}
    following = 0
    for name, tally in tallies.items():
        for trial in range(documents if name == "none" else documents // 2):
            pieces: list[str] = []
            while sum(tokens[piece] + 1 for piece in pieces) < DOCUMENT_TOKENS:
                pieces.append(generator.choice(paragraphs))
            within = {"none": [], "two": [trial % 2 == 0, trial % 4 < 2]}.get(
                name, [name == "within a paragraph"]
            )
            plants = [planted[(following + each) % len(planted)] for each in range(len(within))]
            following += len(plants)
            document = with_plants(pieces, dict(zip(plants, within, strict=True)), generator)
            look(subject, document, plants, tally)
    return report(tallies)


def with_plants(pieces: list[str], plants: dict[str, bool], generator: random.Random) -> str:
    """The document of some paragraphs with each plant at a random place; True for one within a paragraph."""
    for plant, within in plants.items():
        if within:
            # Not into another plant, nor a paragraph that holds one.
            free = [place for place, piece in enumerate(pieces) if not any(each in piece for each in plants)]
            place = generator.choice([place for place in free if "\n" in pieces[place]])
            lines = pieces[place].split("\n")
            cut = generator.randrange(1, len(lines))
            before, after = "\n".join(lines[:cut]), "\n".join(lines[cut:])
            pieces[place] = f"{before}\n{plant}\n{after}"
        else:
            pieces.insert(generator.randrange(len(pieces) + 1), plant)
    return SEPARATOR.join(pieces)


def look(subject: Subject, document: str, plants: Sequence[str], tally: Tally) -> None:
    tally.plain_seconds += seconds(lambda: score_texts(subject.language_model, [TextInput(document)], PLAIN))
    start = time.perf_counter()
    (result,) = measure_windows(subject, [MeasuredText(text=TextInput(document))], lambda _: None)
    tally.own_seconds += time.perf_counter() - start
    assert result is not None
    spans = [(span["start"], span["end"]) for span in result["spans"]]
    expected = [(place, place + len(plant)) for plant in plants for place in [document.index(plant)]]
    tally.documents += 1
    tally.plants += len(plants)
    tally.found += sum(any(begin < last and first < end for begin, end in spans) for first, last in expected)
    tally.exact += sum(place in spans for place in expected)
    others = [
        span
        for span, (begin, end) in zip(result["spans"], spans, strict=True)
        if not any(begin < last and first < end for first, last in expected)
    ]
    tally.nothing_else += not others
    for place in expected:
        if place not in spans:
            meeting = [
                span for span in result["spans"] if span["start"] < place[1] and place[0] < span["end"]
            ]
            print("  planted", place, "found", meeting, repr(document[place[0] : place[1]])[:60])
    for span in others:
        print("  not planted", span, repr(document[span["start"] : span["end"]])[:400])


def report(tallies: dict[str, Tally]) -> list[bool]:
    held = []
    for name, tally in tallies.items():
        if tally.plants:
            line = f"{name}: {tally.plants} planted, found {tally.found}, with exact characters {tally.exact}"
            held.append(limit(line, held=tally.exact == tally.plants))
        line = f"{name}: of {tally.documents} documents, nothing that was not planted in {tally.nothing_else}"
        held.append(limit(line, held=tally.nothing_else == tally.documents))
    own = sum(tally.own_seconds for tally in tallies.values())
    plain = sum(tally.plain_seconds for tally in tallies.values())
    line = f"cost: {own:.1f} s over {plain:.1f} s = {own / plain:.2f}, at most {MOST_PASSES}"
    held.append(limit(line, held=own <= MOST_PASSES * plain))
    return held


def seconds(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure_bounds(
    subject: Subject, texts: Sequence[dict[str, Any]], n_texts: int, n_samples: int
) -> list[bool]:
    """Texts that were inserted often, every second one with a wrong token in its suffix."""
    scoring = replace(PLAIN, prefix_tokens=24, suffix_tokens=16)
    options = MeasurementOptions(near_verbatim=NearVerbatimOptions(similarity=0.875))
    subject = replace(subject, scoring=scoring, options=options)
    language_model = subject.language_model
    generator = random.Random(21)
    inserted = [text["text"] for text in texts if text["duplicates"] >= OFTEN]
    chosen = [
        with_typo(language_model, text, scoring, generator) if place % 2 else text
        for place, text in enumerate(generator.sample(inserted, n_texts))
    ]
    start = time.perf_counter()
    inputs = [MeasuredText(text=TextInput(text)) for text in chosen]
    results: list[Any] = measure_near_verbatim(subject, inputs, lambda _: None)
    print(f"near-verbatim: {(time.perf_counter() - start) / n_texts * 1000:.0f} ms a text")
    above = not_above_p_z = 0
    for place, (text, result) in enumerate(zip(chosen, results, strict=True)):
        tokens = tokenize(language_model.tokenizer, [text])[0].token_ids.tolist()
        prompt = [*subject.prefix_token.in_front, *tokens[: scoring.prefix_tokens]]
        suffix = tokens[scoring.prefix_tokens :][: scoring.suffix_tokens]
        close = close_samples(language_model, prompt, suffix, result["distance"], n_samples)
        interval = binomtest(close, n_samples).proportion_ci(0.95)
        p_z = 0.0 if result["log_p_z"] is None else math.exp(result["log_p_z"])
        above += result["p"] > interval.high
        not_above_p_z += place % 2 == 1 and result["p"] <= p_z
        print(
            f"  {'typo' if place % 2 else '    '} p >= {result['p']:.5f}, p_z {p_z:.2e}, "
            f"sampled {close / n_samples:.5f} [{interval.low:.5f}, {interval.high:.5f}]"
        )
    return [
        limit(f"bounds above the interval of {n_samples} samples: {above} of {n_texts}", held=not above),
        limit(
            f"suffixes with a typo whose bound is not above p_z: {not_above_p_z} of {n_texts // 2}",
            held=not not_above_p_z,
        ),
    ]


def with_typo(
    language_model: LanguageModel, text: str, scoring: ScoringOptions, generator: random.Random
) -> str:
    """The text with one token of its suffix replaced by another one."""
    tokens = tokenize(language_model.tokenizer, [text])[0]
    while True:
        place = scoring.prefix_tokens + generator.randrange(2, scoring.suffix_tokens - 2)
        first, last = tokens.offsets[place]
        wrong = language_model.tokenizer.decode([generator.randrange(300, language_model.vocabulary_size)])
        changed = text[:first] + wrong + text[last:]
        ids = tokenize(language_model.tokenizer, [changed])[0].token_ids
        if len(ids) == len(tokens.token_ids) and (ids != tokens.token_ids).sum() == 1:
            return changed


@torch.inference_mode()
def close_samples(
    language_model: LanguageModel, prompt: list[int], suffix: list[int], distance: int, n_samples: int
) -> int:
    """How many of independent samples come close to a suffix.

    Samples that begin alike are drawn together, as multinomial counts of their next tokens, and dropped as
    soon as no ending brings them back: it is the same experiment, in less time.
    """
    end = language_model.tokenizer.eos_token_id
    generator = np.random.default_rng(22)
    close = 0
    counts = {(): n_samples}
    for at in range(len(suffix)):
        grown: dict[tuple[int, ...], int] = {}
        said = list(counts)
        for first in range(0, len(said), ROWS):
            rows = said[first : first + ROWS]
            inputs = torch.tensor([[*prompt, *row] for row in rows])
            logits = language_model.model(inputs, logits_to_keep=1).logits[:, -1].double()
            kept = (logits / PLAIN.temperature).topk(PLAIN.top_k)
            for row, tokens, p in zip(
                rows, kept.indices.tolist(), kept.values.softmax(-1).numpy(), strict=True
            ):
                for token, count in zip(tokens, generator.multinomial(counts[row], p).tolist(), strict=True):
                    if not count:
                        continue
                    output = (*row, token)
                    if token == end or at + 1 == len(suffix):
                        close += count * (Levenshtein.distance(output, suffix) <= distance)
                    elif (
                        min(
                            Levenshtein.distance(output, suffix[:length]) for length in range(len(suffix) + 1)
                        )
                        <= distance
                    ):
                        grown[output] = count
        counts = grown
    return close


if __name__ == "__main__":
    main()
