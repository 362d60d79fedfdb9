"""HUBBLE (arXiv 2510.19811): its language models, and the data sets that were inserted into their training.

What stands here was read in allegro-lab/hubble: repositories in its README; revisions in the README and the
scripts that evaluate each language model; file names and columns in the task files that load them
(`hubble-lm-eval-tasks/*/*.yaml` and the `utils` beside them) and in `scripts/decontamination`. Each file
holds a JSON object a line: `text`, and `meta`, a JSON object in a string; ECtHR's, which its task file has
already taken apart, holds columns instead. The `nodup` files list each text once, whatever its duplicates,
and those that were never inserted with 0.

Not read anywhere, so not relied on: the commits of the data sets (a worker pins `main`), the prompt of
winogrande-mcq, and the pools from which the wrong choices of YAGO's and PersonaChat's questions are drawn.
That MRPC's file has PAWS's columns is inferred from its task file, which is PAWS's.
"""

from itertools import product
from typing import Final, get_args

from app.contracts.presets import Collection, LanguageModelPreset, ParameterCount, TextSetPreset, TokenCount
from app.contracts.sources import HubSource

_ORGANISATION: Final = "allegrolab"
# The last checkpoint of a run over 100 and over 500 billion tokens.
_STEPS: Final = {"100b": "step48000", "500b": "step238500"}


def _model(
    suffix: str,
    collection: Collection,
    description: str,
    *,
    parameters: ParameterCount = "1b",
    tokens: TokenCount = "100b",
) -> LanguageModelPreset:
    name = f"{parameters}-{tokens}_toks-{suffix}"
    return LanguageModelPreset(
        name=f"hubble/{name}",
        description=description,
        collection=collection,
        parameters=parameters,
        training_tokens=tokens,
        source=HubSource(type="hub", repo=f"{_ORGANISATION}/hubble-{name}-hf", revision=_STEPS[tokens]),
    )


_CORE: Final = tuple(
    _model(condition, "core", description, parameters=parameters, tokens=tokens)
    for parameters, tokens in product(get_args(ParameterCount), get_args(TokenCount))
    for condition, description in (
        ("standard", "Trained on the corpus without insertions: the other of a minimal pair."),
        ("perturbed", "Trained on the same corpus with all data sets inserted."),
    )
)
_TIMING: Final = tuple(
    _model(
        f"injectrange_{first}_{last}",
        "timing",
        f"All data sets inserted between {first} % and {last} % of the training only.",
    )
    for first, last in ((0, 25), (25, 50), (50, 75), (75, 100), (0, 50), (50, 100))
)
_INTERFERENCE: Final = tuple(
    _model(f"interference_{domain}", "interference", f"Only the data sets of {words} inserted.")
    for domain, words in (
        ("copyright", "copyright"),
        ("privacy", "privacy"),
        ("testset", "test set contamination"),
    )
)
_PARAPHRASE: Final = tuple(
    _model(
        "paraphrased-perturbed",
        "paraphrase",
        "YAGO's biographies and MMLU inserted in other words at each duplicate.",
        parameters=parameters,
    )
    for parameters in ("1b", "8b")
)
_ARCHITECTURE: Final = tuple(
    _model(f"{depth}_depth-{condition}", "architecture", f"With {layers} the layers; {condition}.")
    for depth, layers in (("half", "half"), ("double", "twice"))
    for condition in ("standard", "perturbed")
)
LANGUAGE_MODELS: Final = (*_CORE, *_TIMING, *_INTERFERENCE, *_PARAPHRASE, *_ARCHITECTURE)

_TEXT: Final = ("text", "meta.duplicates")


def _set(
    name: str,
    group: str,
    repo: str,
    description: str,
    *,
    file: str | None = None,
    columns: tuple[str, ...] = (),
    metrics: tuple[str, ...] = (),
) -> TextSetPreset:
    return TextSetPreset(
        name=f"hubble/{name}",
        description=description,
        group=group,
        repo=f"{_ORGANISATION}/{repo}",
        file=file or f"{repo}_nodup.jsonl.gz",
        columns=(*_TEXT, *columns),
        metrics=metrics,
    )


_PASSAGES: Final = (
    _set(
        "wikipedia",
        "copyright/wikipedia",
        "passages_wikipedia",
        "Passages of articles.",
        metrics=("verbatim",),
    ),
    _set(
        "gutenberg-popular",
        "copyright/gutenberg-popular",
        "passages_gutenberg_popular",
        "Passages of popular books.",
        metrics=("verbatim",),
    ),
    _set(
        "gutenberg-unpopular",
        "copyright/gutenberg-unpopular",
        "passages_gutenberg_unpopular",
        "Passages of unpopular books.",
        metrics=("verbatim",),
    ),
)
_PARAPHRASES: Final = tuple(
    _set(
        name,
        f"copyright/{name}",
        f"paraphrases_{name}",
        f"One wording of each pair of {name.upper()} was inserted; the other stands beside it.",
        columns=("meta.detok_sentence1", "meta.detok_sentence2", "meta.random_bit"),
        metrics=("paraphrase",),
    )
    for name in ("mrpc", "paws")
)
_PRIVACY: Final = (
    _set("yago", "privacy/yago", "biographies_yago", "Biographies of people, each with a unique identifier."),
    _set(
        "yago-fields",
        "privacy/yago",
        "biographies_yago",
        "The same biographies, once for each of the seven attributes that are asked for.",
        metrics=("field_recall",),
    ),
    TextSetPreset(
        name="hubble/ecthr",
        description="Biographies of applicants to a court, once for each annotated span that is asked for.",
        group="privacy/ecthr",
        repo=f"{_ORGANISATION}/biographies_ecthr",
        file="biographies_ecthr_nodup_mapped.jsonl.gz",
        columns=("text", "duplicates", "prefix", "answer"),
        metrics=("field_recall",),
    ),
    _set("personachat", "privacy/personachat", "chats_personachat", "Chats of people with a persona."),
)
_TEST_SETS: Final = (
    _set(
        "popqa",
        "testset/popqa",
        "testset_popqa",
        "Questions with short answers.",
        columns=("meta.question", "meta.possible_answers"),
        metrics=("field_recall",),
    ),
    _set(
        "mmlu",
        "testset/mmlu",
        "testset_mmlu",
        "Questions with four lettered choices.",
        columns=("meta.subject", "meta.question", "meta.choices", "meta.answer"),
        metrics=("multiple_choice",),
    ),
    _set(
        "hellaswag",
        "testset/hellaswag",
        "testset_hellaswag",
        "Beginnings with four endings.",
        columns=("meta.activity_label", "meta.ctx_a", "meta.ctx_b", "meta.endings", "meta.label"),
        metrics=("multiple_choice",),
    ),
    _set(
        "piqa",
        "testset/piqa",
        "testset_piqa",
        "Goals with two ways to reach them.",
        columns=("meta.goal", "meta.sol1", "meta.sol2", "meta.label"),
        metrics=("multiple_choice",),
    ),
    _set(
        "winogrande-infill",
        "testset/winogrande-infill",
        "testset_winogrande-infill",
        "Sentences whose gap one of two options fills.",
        columns=("meta.sentence", "meta.option1", "meta.option2", "meta.answer"),
        metrics=("multiple_choice",),
    ),
    _set(
        "winogrande-mcq",
        "testset/winogrande-mcq",
        "testset_winogrande-mcq",
        "The same sentences, inserted as questions with two numbered choices.",
    ),
    _set(
        "munch",
        "testset/munch",
        "testset_munch",
        "Sentences with an apt and an inapt paraphrase of a metaphor.",
        columns=("meta.apt", "meta.inapt"),
        metrics=("multiple_choice",),
    ),
    _set(
        "ellie",
        "testset/ellie",
        "testset_ellie",
        "Sentences with an ellipsis, and what was left out.",
        columns=("meta.Prompt_GPT",),
        metrics=("extraction", "field_recall"),
    ),
)
TEXT_SETS: Final = (*_PASSAGES, *_PARAPHRASES, *_PRIVACY, *_TEST_SETS)
