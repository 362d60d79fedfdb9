"""What the service is sent, as typed dictionaries. Generated from openapi.json by `make client-types`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


class APIKeyCreate(TypedDict):
    """An API key to be. Two of one name may live at a time: the one in use, and the one to change over to."""

    name: str

    scopes: Sequence[
        Literal[
            "audit:read",
            "audit:write",
            "audit:evidence",
            "edit:read",
            "edit:write",
            "keys:write",
            "trail:read",
            "admin",
        ]
    ]
    """What it may do. No scope comes twice."""

    expires_at: NotRequired[str | None]
    """When it ends by itself; null for never."""


Action: TypeAlias = Literal[
    "tenant.created",
    "tenant.changed",
    "key.created",
    "key.revoked",
    "session.begun",
    "session.ended",
    "model.registered",
    "model.deleted",
    "text_set.created",
    "text_set.read",
    "text_set.erased",
    "work.requested",
    "work.cancelled",
    "scores.exported",
    "tokens.read",
    "evidence_with_texts.read",
    "gate.decided",
    "master_key.rotated",
    "artifact.downloaded",
    "artifact.deleted",
    "webhook.created",
    "webhook.changed",
    "webhook.deleted",
    "webhook.rotated",
    "webhook.replayed",
    "webhook.tested",
]
"""What can be in the trail."""


class AuditCreate(TypedDict):
    """An audit to run.

    `model` is an id, or a source. A source that was registered before keeps the revision that was pinned
    then; register it again to pin a newer one. The texts are those of `text_set`, an id, or of a
    `preset`: then a worker imports them first, unless the tenant has a text set of that preset.

    `control_text_set` holds texts of the same kind that the language model never saw: with them each text
    gets a p-value and a verdict. `reference_model` is a language model like `model` that never saw the
    texts: what is judged is then how much more strongly `model` has memorized them. Both are scored by
    audits of their own, the `companions`, and the audit ends once these have.

    `policy` is recorded before the first score, and a gate made that judges the audit by it.
    """

    metrics: NotRequired[
        Sequence[
            Literal[
                "nl",
                "extraction",
                "verbatim",
                "p_z",
                "near_verbatim",
                "windows",
                "membership",
                "multiple_choice",
                "field_recall",
                "paraphrase",
            ]
        ]
    ]

    options: NotRequired[AuditOptions]

    model: str | HubSource | PathSource

    text_set: NotRequired[str | None]

    preset: NotRequired[
        Literal[
            "hubble/wikipedia",
            "hubble/gutenberg-popular",
            "hubble/gutenberg-unpopular",
            "hubble/mrpc",
            "hubble/paws",
            "hubble/yago",
            "hubble/yago-fields",
            "hubble/ecthr",
            "hubble/personachat",
            "hubble/popqa",
            "hubble/mmlu",
            "hubble/hellaswag",
            "hubble/piqa",
            "hubble/winogrande-infill",
            "hubble/winogrande-mcq",
            "hubble/munch",
            "hubble/ellie",
        ]
        | None
    ]

    reference_model: NotRequired[str | HubSource | PathSource | None]

    control_text_set: NotRequired[str | None]

    policy: NotRequired[str | None]

    metadata: NotRequired[dict[str, JsonValue]]


class AuditOptions(TypedDict):
    """How texts are scored; the defaults are those of arXiv 2510.24256 (64 and 48) and 2410.19482 (40).

    `prefix_token` is what stands before each text. `auto`: what the checkpoint's own tokenizer puts there; if
    that is nothing, BOS, else EOS, gives the first token its probability and nothing else sees it. `bos`,
    `eos` or an id: that token, before all of the text. `bos_else_eos`: as lm-evaluation-harness has it.
    `none`: nothing, and the first token is not scored.

    `special_tokens` is what the string of a special token inside a text becomes, such as `<|endoftext|>`:
    `control` that token, as transformers encodes unless told otherwise; `text` its characters.

    `extraction_rate` is the share of recited texts, in [0, 1), that the summary's `extraction_onset` seeks.

    `fdr` is the share of false ones that is accepted among the texts called `memorized` (Benjamini and
    Hochberg 1995), where there are control texts. `seed` is that of all that a calibration draws at
    random: the texts and the folds of its check, and permutations. Nothing else of an audit is random.
    """

    prefix_tokens: NotRequired[int]
    """Tokens of the prompt, for texts that bring no split."""

    suffix_tokens: NotRequired[int]
    """Tokens to recite after it (arXiv 2510.24256)."""

    temperature: NotRequired[float]
    """What logits are divided by when a client samples."""

    top_k: NotRequired[int]
    """How many of the likeliest tokens are sampled from."""

    min_k: NotRequired[float]
    """Share of least likely tokens that `membership` looks at (arXiv 2310.16789)."""

    token_evidence: NotRequired[bool]
    """Whether each token's numbers are kept, and later audits derived from them."""

    dtype: NotRequired[Literal["float32", "bfloat16"]]
    """Of the weights; the softmax is float32 whatever that is."""

    prefix_token: NotRequired[Literal["auto", "bos", "eos", "bos_else_eos", "none"] | int]

    special_tokens: NotRequired[Literal["control", "text"]]
    """What the string of a special token inside a text becomes: that token, or text."""

    extraction_rate: NotRequired[float]
    """Share of recited texts that `extraction_onset` seeks."""

    fdr: NotRequired[float]
    """Share of false ones accepted among `memorized` texts (Benjamini and Hochberg 1995)."""

    seed: NotRequired[int]
    """Of what a calibration draws at random."""

    windows: NotRequired[WindowOptions | None]
    """Of the metric `windows`; null for its defaults."""

    near_verbatim: NotRequired[NearVerbatimOptions | None]
    """Of the metric `near_verbatim`; null for its defaults."""


class BalancedSubnetOptions(TypedDict):
    """How BalancedSubnet learns its mask; the defaults are those of arXiv 2510.24256."""

    ratio: NotRequired[float]

    epochs: NotRequired[int]

    learning_rate: NotRequired[float]

    loss_weight: NotRequired[float]


class Constraint(TypedDict):
    """What a setting must keep to be chosen.

    Perplexity on clean text may grow by the share `max_perplexity_increase` at most, and the retain set
    become less likely by `max_nl_drop` nats per token at most.
    """

    max_perplexity_increase: NotRequired[float]

    max_nl_drop: NotRequired[float | None]


DeliveryState: TypeAlias = Literal["pending", "delivered", "dead"]
"""What became of a delivery."""


class EditCreate(TypedDict):
    """An edit to run: which language model, by which method, and what to measure before and after.

    K-FAC needs a calibration set and no forget set, unless settings are searched (`sweep`, or `layers` as
    "auto"): then the forget set is what the search aims at. BalancedSubnet needs both. SVD needs neither.
    K-FAC keeps the curvature of a retain set too, with the weight `retain_weight` (0.1 unless given), and
    `recovery` trains the edited matrices on it for a few steps.

    `policy` is recorded before anything is measured, and a gate made that judges the edit by it.
    """

    method: Literal["kfac", "balanced_subnet", "svd"]

    layers: NotRequired[Sequence[int] | Literal["auto"] | None]

    projections: NotRequired[Sequence[Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"]] | None]

    keep_mass: NotRequired[float | None]

    retain_weight: NotRequired[float | None]

    recovery: NotRequired[Recovery | None]

    labels: NotRequired[Literal["sampled", "gold"]]

    calibration_tokens: NotRequired[int]

    block_tokens: NotRequired[int]

    rank_ratio: NotRequired[RankRatios]

    balanced_subnet: NotRequired[BalancedSubnetOptions]

    sweep: NotRequired[Sweep | None]

    constraint: NotRequired[Constraint]

    evaluation: NotRequired[EditEvaluation]

    seed: NotRequired[int]

    dtype: NotRequired[Literal["float32", "bfloat16"]]

    model: str | HubSource | PathSource

    name: str

    calibration_text_set: NotRequired[str | None]

    retain_text_set: NotRequired[str | None]

    forget_text_set: NotRequired[str | None]

    policy: NotRequired[str | None]

    metadata: NotRequired[dict[str, JsonValue]]


class EditEvaluation(TypedDict):
    """What is measured before and after.

    `memorized` is by default the forget set, `clean` the calibration set. `unseen` are memorized texts that
    the method is never shown, `control` texts that were never inserted, `items` questions with choices
    and an answer, or with a prefix and the suffix that answers it.

    `prefix_token` is what stands before the texts, as in the options of an audit: for what is measured,
    questions too, for the search, for recovery, and for the forget set of BalancedSubnet.

    `stress` tries to bring the memories back: true by other prompts and coarser weights, "full" also by the
    layers, by generation and by relearning. `reference_model` is the id of a language model that never
    saw the texts, such as the standard model of a pair: its numbers are what forgetting could reach.
    """

    memorized_text_set: NotRequired[str | None]

    unseen_text_set: NotRequired[str | None]

    control_text_set: NotRequired[str | None]

    clean_text_set: NotRequired[str | None]

    items_text_set: NotRequired[str | None]

    prefix_tokens: NotRequired[int]

    suffix_tokens: NotRequired[int]

    prefix_token: NotRequired[Literal["auto", "bos", "eos", "bos_else_eos", "none"] | int]

    stress: NotRequired[bool | Literal["full"]]

    reference_model: NotRequired[str | None]

    limits: NotRequired[Limits]


class EquivalentDuplicates(TypedDict):
    """No text in scope is worth more than `at_most` known insertions.

    By the `equivalent_duplicates` of an audit's texts of unknown number, and the 95 % interval of each: a
    text counts if its whole interval is above the limit, and is undecided if the limit lies within. No
    correction is made for there being many texts.
    """

    kind: Literal["equivalent_duplicates"]

    at_most: float
    """How many insertions."""

    groups: NotRequired[str | None]


class GateCreate(TypedDict):
    """A gate: a policy, and the audit, study or edit that it judges once that has succeeded."""

    policy: str
    """The id of a policy, `pol_…`."""

    audit: NotRequired[str | None]

    study: NotRequired[str | None]

    edit: NotRequired[str | None]

    metadata: NotRequired[dict[str, JsonValue]]


class HubSource(TypedDict):
    """A repository on a Hugging Face hub. The worker pins `revision` to a commit."""

    type: Literal["hub"]

    repo: str

    revision: NotRequired[str]


JsonValue: TypeAlias = Any


class LanguageModelCreate(TypedDict):
    """A checkpoint to register."""

    source: HubSource | PathSource

    metadata: NotRequired[dict[str, JsonValue]]


LanguageModelStatus: TypeAlias = Literal["queued", "ready", "rejected"]
"""How far validation has come."""


class Limits(TypedDict):
    """What the client asks of the edited model; the verdict compares it with 95 % intervals.

    `max_strict` of 0 and `min_ndcg` of 1 can be broken, never shown to be kept: intervals end above 0 and
    begin below 1, so such a limit is at best `inconclusive`. `max_strict` of 0.05 takes 72 texts of which
    none is recited.

    `max_auc_distance` is how far from 0.5 the membership AUC of memorized and unseen texts against those
    never inserted may be, above it or below: a model that avoids texts tells them apart as well.
    """

    max_strict: NotRequired[float | None]

    max_perplexity_increase: NotRequired[float | None]

    min_ndcg: NotRequired[float | None]

    max_auc_distance: NotRequired[float | None]


class MeanDifference(TypedDict):
    """Mean `nl` of the second model of a pair is at most `at_most` above that of the first.

    By the study's paired difference and its 95 % interval.
    """

    kind: Literal["mean_difference"]

    at_most: float
    """In nats per token."""

    group: NotRequired[str | None]


class MembershipAUC(TypedDict):
    """A membership score does not tell members from others, as OWASP AISVS C11.2.5 asks.

    By the ROC AUC of the summary and its 95 % interval. It fails if the interval excludes 0.5 on either side:
    a score that ranks members lower reveals them as well. It passes if the interval holds 0.5 and lies
    between 1 - `at_most` and `at_most`; a wider one, of too few texts, is `inconclusive`.
    """

    kind: Literal["membership_auc"]

    model: NotRequired[str | None]

    score: NotRequired[Literal["loss", "zlib", "min_k", "min_k_pp", "reference", "recall"]]
    """Which of the scores of `membership`."""

    at_most: NotRequired[float]
    """What is near enough to 0.5."""


class ModelLineCreate(TypedDict):
    """A line of versions of a language model, all of which are judged by the same checks."""

    name: str

    description: NotRequired[str | None]

    checks: Sequence[StandingCheck]
    """They never change."""

    metadata: NotRequired[dict[str, JsonValue]]


class ModelVersionCreate(TypedDict):
    """A version to register: its language model, an id or a source as in an audit; and what it is called."""

    model: str | HubSource | PathSource

    label: str

    metadata: NotRequired[dict[str, JsonValue]]


class NearVerbatimOptions(TypedDict):
    """When an output is near a suffix, and how thoroughly such outputs are looked for (arXiv 2603.24917)."""

    similarity: NotRequired[float]
    """1 - (Levenshtein distance in tokens) / (tokens of the suffix), as in `extraction`; 0.95 allows two edits
    in 48 tokens.
    """

    beams: NotRequired[int]
    """Partial outputs kept: more find more, and cost in proportion."""


class NoMemorizedText(TypedDict):
    """No text in scope has a q-value of at most `q`: none stands out from the audit's control texts.

    For an audit with a `control_text_set`. The q-values are those of its scores, over all its texts.
    """

    kind: Literal["no_memorized_text"]

    q: NotRequired[float]
    """Share of false ones accepted among the texts that are named."""

    detects: NotRequired[int]
    """How many texts, if they alone were above all controls, must have such a q-value for a pass to count: 1 for
    a single one. That takes texts / (`detects` q) controls, in each stratum.
    """

    groups: NotRequired[str | None]


class NoNewlyMemorized(TypedDict):
    """The last version of a release has memorized no text that an earlier one had not.

    By `newly_memorized` of a study of kind `release` that has a `control_text_set`, at its `options.fdr`. A
    text that could not be judged makes it `inconclusive`, unless another fails it; so do controls that
    are too few for so few texts as it `detects`.
    """

    kind: Literal["no_newly_memorized"]

    since: NotRequired[str | None]

    detects: NotRequired[int]
    """How many texts, if they alone were above all controls, must have such a q-value for a pass to count: 1 for
    a single one. That takes texts / (`detects` q) controls, in each stratum.
    """


OperationStatus: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
"""Where long work stands. The last three are terminal."""


class PathSource(TypedDict):
    """A directory on the workers' disk, under one of the allow-listed roots."""

    type: Literal["path"]

    path: str


class Perplexity(TypedDict):
    """The perplexity of clean text grows by at most a share `max_increase`.

    By the edit's evaluation and its 95 % interval: it passes if all of the interval keeps the limit, and
    fails if all of it breaks it.
    """

    kind: Literal["perplexity"]

    max_increase: NotRequired[float]
    """The share, as 0.1 for 10 %."""


class PolicyCreate(TypedDict):
    """A policy: `rules`, all of which must pass, or those of a `template` that ships with the product.

    A name that a policy of the tenant has already gives the next version of it. `name` and `description` are
    by default the template's.
    """

    name: NotRequired[str | None]

    description: NotRequired[str | None]

    rules: NotRequired[
        Sequence[
            NoMemorizedText
            | Rate
            | ProbabilisticExtraction
            | NoNewlyMemorized
            | MembershipAUC
            | Perplexity
            | EquivalentDuplicates
            | MeanDifference
        ]
        | None
    ]

    template: NotRequired[str | None]

    metadata: NotRequired[dict[str, JsonValue]]


class ProbabilisticExtraction(TypedDict):
    """No text in scope is (n, p)-extractable: recited at least once in n samples with probability p.

    That is 1 - (1 - p_z)^n >= p (arXiv 2410.19482), by the metric `p_z` under the audit's `temperature` and
    `top_k`: the likelihood "of direct, including probabilistic, extraction" of EDPB Opinion 28/2024. A
    text that could not be measured makes it `inconclusive`, unless another fails it.
    """

    kind: Literal["probabilistic_extraction"]

    model: NotRequired[str | None]

    probability: NotRequired[float]
    """p, from which on a text counts."""

    samples: NotRequired[int]
    """n, how many are drawn."""

    groups: NotRequired[str | None]


class Quotas(TypedDict):
    """How much of the instance a tenant may use; null is the instance's default, which may be no limit."""

    requests_per_minute: NotRequired[int | None]
    """Requests to an API process: so many at once, and as many a minute thereafter."""

    concurrent_operations: NotRequired[int | None]
    """Audits, studies, edits, gates and model versions that have not ended, those made for other work too;
    language models in validation, and text sets in import.
    """

    stored_texts: NotRequired[int | None]
    """Texts of all text sets that are not erased."""

    stored_bytes: NotRequired[int | None]
    """Bytes of those texts in UTF-8, and of the files of artifacts that are not deleted."""

    gpu_seconds_per_day: NotRequired[int | None]
    """Seconds of workers at jobs of the queue `gpu`, from midnight to midnight in UTC."""

    gpu_seconds_per_month: NotRequired[int | None]
    """As by the day, in a calendar month in UTC."""

    upload_bytes: NotRequired[int | None]
    """Bytes of one request that uploads texts."""


class RankRatios(TypedDict):
    """What SVD keeps of a projection's singular values, as a share of its full rank.

    The defaults are those of arXiv 2510.24256, which does not truncate attention.
    """

    gate: NotRequired[float]

    up: NotRequired[float]

    down: NotRequired[float]

    q: NotRequired[float | None]

    k: NotRequired[float | None]

    v: NotRequired[float | None]

    qkv: NotRequired[float | None]

    o: NotRequired[float | None]


class Rate(TypedDict):
    """At most a share `at_most` of texts like those in scope has a property, at a stated confidence.

    The bounds are one-sided and exact (Clopper and Pearson 1934). It passes if the upper one is at most
    `at_most`, and fails if the lower one is above. Texts in scope that have no such number, as they are
    too short, do not count.
    """

    kind: Literal["rate"]

    model: NotRequired[str | None]

    metric: Literal[
        "strict",
        "loose",
        "accuracy",
        "accuracy_normalized",
        "prefix_match_full",
        "prefix_match_intro",
        "prefix_match_name_only",
        "paraphrase_preferred",
        "paraphrase_preferred_normalized",
        "near_verbatim",
    ]
    """What is counted: a share of the summary, such as `strict` (the suffix is recited exactly) or `loose`; or
    `near_verbatim`, that one sample comes near the suffix with a probability of at least 0.5, as far as
    the metric's search found.
    """

    at_most: float
    """The share, as 0.001."""

    confidence: NotRequired[float]
    """Of each bound: 0.95 errs in 5 of 100 cases at most."""

    groups: NotRequired[str | None]

    texts: NotRequired[Literal["seen", "unseen", "control"] | None]


class Recovery(TypedDict):
    """How the edited matrices learn again what texts like the retain set need.

    After directions are dropped, `steps` of Adam train them: on rows of the retain set, and to predict rows
    of the calibration set as the base does (arXiv 1503.02531). Each matrix moves in the `rank` directions
    in which its inputs on the retain set are largest, or freely if that is null. `learning_rate` is how
    far the first step moves a matrix, as a share of its root mean square; it falls to nought over the
    steps.
    """

    steps: NotRequired[int]

    rank: NotRequired[int | None]

    learning_rate: NotRequired[float]


class Retention(TypedDict):
    """How long what a tenant submits is kept, in days; null is for ever."""

    text_sets_days: NotRequired[int | None]

    evidence_days: NotRequired[int | None]

    events_days: NotRequired[int | None]


ScoreOrder: TypeAlias = Literal["ordinal", "nl", "-nl"]
"""In which order scores are listed."""


class ScoreRequest(TypedDict):
    """Up to 64 short texts, to be scored while the client waits up to `timeout` seconds."""

    metrics: NotRequired[
        Sequence[
            Literal[
                "nl",
                "extraction",
                "verbatim",
                "p_z",
                "near_verbatim",
                "windows",
                "membership",
                "multiple_choice",
                "field_recall",
                "paraphrase",
            ]
        ]
    ]

    options: NotRequired[AuditOptions]

    model: str | HubSource | PathSource

    texts: Sequence[TextRecord]

    timeout: NotRequired[float]


class StandingCheck(TypedDict):
    """An audit of every version of a line, and from the second on a study with the one before it.

    `control_text_set` is as in an audit, and serves the study too.
    """

    metrics: NotRequired[
        Sequence[
            Literal[
                "nl",
                "extraction",
                "verbatim",
                "p_z",
                "near_verbatim",
                "windows",
                "membership",
                "multiple_choice",
                "field_recall",
                "paraphrase",
            ]
        ]
    ]

    options: NotRequired[AuditOptions]

    text_set: str

    control_text_set: NotRequired[str | None]

    policies: NotRequired[Sequence[str]]
    """Each judges the audit of every version, and is pre-registered."""

    study_policies: NotRequired[Sequence[str]]
    """Each judges the study of every version with the one before it: `no_newly_memorized` and other rules that
    apply to a `release`.
    """


class StudyCreate(TypedDict):
    """A study to run: an audit of the same texts for each language model, compared when all have succeeded.

    `control_text_set` is for a `release`: texts that no version has seen more often than another. Without
    them single texts are compared, but none is called memorized. `policy` is recorded before the first
    score, and a gate made that judges the study by it.
    """

    metrics: NotRequired[
        Sequence[
            Literal[
                "nl",
                "extraction",
                "verbatim",
                "p_z",
                "near_verbatim",
                "windows",
                "membership",
                "multiple_choice",
                "field_recall",
                "paraphrase",
            ]
        ]
    ]

    options: NotRequired[AuditOptions]

    kind: Literal["pair", "trajectory", "release"]

    models: Sequence[StudyModel]

    name: str

    text_set: str

    control_text_set: NotRequired[str | None]

    policy: NotRequired[str | None]

    metadata: NotRequired[dict[str, JsonValue]]


class StudyModel(TypedDict):
    """A language model of a study: an id, or a source as in an audit; and what it is called there."""

    model: str | HubSource | PathSource

    label: str

    step: NotRequired[int | None]


class Sweep(TypedDict):
    """Settings of the K-FAC edit to try, each combination of them.

    What is left out stays as the edit itself has it; a mass that nothing says is adapted for each
    combination.
    """

    layers: NotRequired[Sequence[Sequence[int]] | None]

    keep_mass: NotRequired[Sequence[float] | None]

    projections: NotRequired[
        Sequence[Sequence[Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"]]] | None
    ]

    retain_weight: NotRequired[Sequence[float] | None]

    recovery_steps: NotRequired[Sequence[int] | None]


class TenantChange(TypedDict):
    """What is to change of a tenant: each field that is given; the others stay.

    `quotas` and `retention` are each replaced as a whole: what is left out of one is null again.
    """

    name: NotRequired[str | None]

    quotas: NotRequired[Quotas | None]

    retention: NotRequired[Retention | None]

    disabled: NotRequired[bool | None]


class TenantCreate(TypedDict):
    """A tenant to be."""

    name: str

    quotas: NotRequired[Quotas]

    retention: NotRequired[Retention]


class TextRecord(TypedDict):
    """One text and what is known about it.

    Either `text`, or `prefix` and `suffix`, whose concatenation is the text.
    """

    id: NotRequired[str | None]

    text: NotRequired[str | None]

    prefix: NotRequired[str | None]

    suffix: NotRequired[str | None]

    duplicates: NotRequired[int | None]

    group: NotRequired[str | None]

    member: NotRequired[bool | None]

    choices: NotRequired[Sequence[str] | None]

    answer: NotRequired[int | None]

    metadata: NotRequired[dict[str, JsonValue] | None]


class TextSetCreate(TypedDict):
    """A text set in one JSON document.

    Its texts are validated one by one, as those of a stream are, so that a body full of mistakes costs no
    more than a correct one.
    """

    name: str

    texts: Sequence[TextRecord]

    metadata: NotRequired[dict[str, JsonValue]]


class TextSetImport(TypedDict):
    """A text set whose texts a worker fetches: those of a preset, named after it unless named here."""

    preset: Literal[
        "hubble/wikipedia",
        "hubble/gutenberg-popular",
        "hubble/gutenberg-unpopular",
        "hubble/mrpc",
        "hubble/paws",
        "hubble/yago",
        "hubble/yago-fields",
        "hubble/ecthr",
        "hubble/personachat",
        "hubble/popqa",
        "hubble/mmlu",
        "hubble/hellaswag",
        "hubble/piqa",
        "hubble/winogrande-infill",
        "hubble/winogrande-mcq",
        "hubble/munch",
        "hubble/ellie",
    ]

    name: NotRequired[str | None]

    metadata: NotRequired[dict[str, JsonValue]]


TextSetStatus: TypeAlias = Literal["importing", "ready", "failed", "cancelled"]
"""Whether the texts are there. What is uploaded is ready at once."""


class WebhookChange(TypedDict):
    """What is to be changed of a webhook; what is left out stays. What waits goes to the new URL.

    One that is enabled again is told of the events from then on, and sent what still waits for it.
    """

    url: NotRequired[str | None]

    event_types: NotRequired[
        Sequence[
            Literal[
                "audit.succeeded",
                "audit.failed",
                "audit.cancelled",
                "study.succeeded",
                "study.failed",
                "study.cancelled",
                "edit.succeeded",
                "edit.failed",
                "edit.cancelled",
                "gate.passed",
                "gate.failed",
                "gate.inconclusive",
                "gate.undecided",
                "gate.cancelled",
                "version.registered",
                "version.succeeded",
                "version.failed",
                "version.cancelled",
                "language_model.ready",
                "language_model.rejected",
                "language_model.deleted",
                "text_set.ready",
                "text_set.failed",
                "text_set.erased",
            ]
        ]
        | None
    ]

    description: NotRequired[str | None]

    enabled: NotRequired[bool | None]

    metadata: NotRequired[dict[str, JsonValue] | None]


class WebhookCreate(TypedDict):
    """A receiver of events."""

    url: str
    """`https://…`, on port 443 of the public internet unless the operator allows more. No user name, no
    fragment; redirects are not followed.
    """

    event_types: NotRequired[
        Sequence[
            Literal[
                "audit.succeeded",
                "audit.failed",
                "audit.cancelled",
                "study.succeeded",
                "study.failed",
                "study.cancelled",
                "edit.succeeded",
                "edit.failed",
                "edit.cancelled",
                "gate.passed",
                "gate.failed",
                "gate.inconclusive",
                "gate.undecided",
                "gate.cancelled",
                "version.registered",
                "version.succeeded",
                "version.failed",
                "version.cancelled",
                "language_model.ready",
                "language_model.rejected",
                "language_model.deleted",
                "text_set.ready",
                "text_set.failed",
                "text_set.erased",
            ]
        ]
        | None
    ]

    description: NotRequired[str | None]

    enabled: NotRequired[bool]

    metadata: NotRequired[dict[str, JsonValue]]


class WebhookReplayRequest(TypedDict):
    """Which deliveries are to be sent again: the dead ones."""

    since: str
    """Of events at this time or later: RFC 3339, with the offset from UTC."""


class WebhookRotate(TypedDict):
    """How a webhook gets another secret."""

    overlap_seconds: NotRequired[int]
    """For how long the secrets from before sign too; 0 if one has become known."""


class WindowOptions(TypedDict):
    """Windows over whole documents, in tokens; the defaults are those of arXiv 2505.12546."""

    prefix_tokens: NotRequired[int]
    """Before the suffix, within the window."""

    suffix_tokens: NotRequired[int]
    """To recite; also the shortest span that is reported."""

    stride: NotRequired[int]
    """From a window to the next."""


class ListLanguageModels(TypedDict):
    """List language models, newest first; of a status, derived from a base, with some metadata."""

    status: NotRequired[LanguageModelStatus | None]

    base_model: NotRequired[str | None]
    """The id of a language model, `mdl_…`."""

    model_repo: NotRequired[str | None]
    """`<tenant>/<name>` of an edited model, as its edit gives it."""

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListTextSets(TypedDict):
    """List text sets, newest first; of a name, a status, a preset, with some metadata."""

    name: NotRequired[str | None]

    status: NotRequired[TextSetStatus | None]

    preset: NotRequired[str | None]
    """The name of a preset, as `hubble/wikipedia`."""

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListAudits(TypedDict):
    """List audits, newest first; of a language model, a text set, a status, with some metadata."""

    companions: NotRequired[bool]
    """Whether to list audits that were made for another audit or a study."""

    model: NotRequired[str | None]
    """The id of a language model, `mdl_…`."""

    text_set: NotRequired[str | None]
    """The id of a text set, `txs_…`."""

    status: NotRequired[OperationStatus | None]

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListScores(TypedDict):
    """List scores. With `Accept: application/jsonl`, `text/csv` or Parquet, all rows are streamed instead."""

    sort: NotRequired[ScoreOrder]

    group: NotRequired[str | None]


class ListStudies(TypedDict):
    """List studies, newest first; of a language model, a text set, a status, with some metadata."""

    model: NotRequired[str | None]
    """The id of a language model, `mdl_…`."""

    text_set: NotRequired[str | None]
    """The id of a text set, `txs_…`."""

    status: NotRequired[OperationStatus | None]

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListEdits(TypedDict):
    """List edits, newest first; of a base model, a text set, a status, with some metadata."""

    model: NotRequired[str | None]
    """The id of a language model, `mdl_…`."""

    text_set: NotRequired[str | None]
    """The id of a text set, `txs_…`."""

    status: NotRequired[OperationStatus | None]

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListPolicies(TypedDict):
    """List policies, newest first; all versions of one name, with some metadata."""

    name: NotRequired[str | None]

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListGates(TypedDict):
    """List gates, newest first; of a policy, on a subject, a language model or texts, with some metadata."""

    policy: NotRequired[str | None]
    """The id of a policy, `pol_…`."""

    subject: NotRequired[str | None]
    """The id of an audit, a study or an edit."""

    model: NotRequired[str | None]
    """The id of a language model, `mdl_…`."""

    text_set: NotRequired[str | None]
    """The id of a text set, `txs_…`."""

    status: NotRequired[OperationStatus | None]

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListModelLines(TypedDict):
    """List model lines, newest first; that of a name, with some metadata."""

    name: NotRequired[str | None]

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListModelVersions(TypedDict):
    """List the versions of a line, newest first; of a status, with some metadata."""

    status: NotRequired[OperationStatus | None]

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListEvents(TypedDict):
    """List events, the oldest first: what ended and how, in the order in which it was committed."""

    after: NotRequired[str | None]
    """The id of an event, `evt_…`: those that came later."""


class ListWebhooks(TypedDict):
    """List webhooks, newest first; with some metadata."""

    metadata: NotRequired[dict[str, str]]
    """`metadata[key]=value`: resources whose metadata has this string, number or boolean under this key. Up to
    8, all of which must hold.
    """


class ListWebhookDeliveries(TypedDict):
    """List what was sent to a webhook or will be, newest first; of a status."""

    status: NotRequired[DeliveryState | None]


class ListTenants(TypedDict):
    """List tenants, newest first. Without the scope `admin` only the own one is there."""

    name: NotRequired[str | None]


class ListTrail(TypedDict):
    """List who did what, the oldest first: in the own tenant, or with the scope `admin` in all of them."""

    tenant: NotRequired[str | None]
    """The id of a tenant, `tnt_…`."""

    action: NotRequired[Action | None]
    """What was done."""
