"""What the service answers, as pydantic models. Generated from openapi.json by `make client-types`.

Fields and values that a newer service adds are kept: see `memaudit.base.Answer`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from memaudit.base import Answer


class Work(Answer):
    """What is prepared or worked on for a while after it was asked for, and then ends."""

    id: str

    status: str

    error: Problem | None = None


class APIKey(Answer):
    """What is known of an API key: the key itself is not."""

    object: Literal["api_key"] = "api_key"

    id: str

    tenant: str
    """The id of the tenant in whose name it asks."""

    name: str

    ends_in: str
    """Its last four characters."""

    scopes: list[str]

    created_at: datetime

    expires_at: datetime | None = None

    revoked_at: datetime | None = None

    last_used_at: datetime | None = None
    """To about ten minutes; null if it never was."""


class Ancestor(Answer):
    """A language model that the edited one comes from."""

    model: str
    """Its id."""

    source: Literal["hub", "path", "artifact"] | str
    """Where its files came from; an artifact is an edited model of this service."""

    name: str
    """The hub's repository, `tenant/name` of an edited model, or the last part of a path."""

    revision: str | None = None
    """The commit of its files; null for a directory, which has none."""

    digest: str | None = None
    """SHA-256 over the names and digests of its files; null for one that was never validated."""


class AreaUnderCurve(Answer):
    """ROC AUC, 0 to 1: the probability that a member scores higher than another text, with ties as a half.

    0.5 is chance. [`low`, `high`] is its 95 % interval: DeLong, DeLong and Clarke-Pearson (1988) on the logit
    scale, or that with one more text on each side that ranks at chance where it reaches further.
    """

    n_members: int
    """Texts of the training data."""

    n_others: int
    """Texts that are not."""

    auc: float
    """The area."""

    low: float | None = None
    """Where the interval begins, 0 to 1; null where all scores are equal, which says nothing of how they vary."""

    high: float | None = None
    """Where the interval ends, 0 to 1; null likewise."""


class ArtifactFile(Answer):
    """A file of an artifact; its ETag is the `sha256`."""

    path: str

    size: int

    sha256: str


class Artifact(Answer):
    """An immutable set of files.

    `manifest_sha256` is the SHA-256 of what `sha256sum` prints for the files, sorted by path. `model_repo`
    and `revision` are what Hugging Face clients call these files when `HF_ENDPOINT` is this service.
    """

    object: Literal["artifact"] = "artifact"

    id: str

    name: str

    model_repo: str

    revision: str

    manifest_sha256: str

    total_bytes: int

    files: list[ArtifactFile]

    metadata: dict[str, JsonValue]

    created_at: datetime


class AskedCounts(Answer):
    """How many texts a metric could ask about, by the status of their results."""

    ok: int
    """Texts with numbers."""

    not_applicable: int
    """Texts that ask nothing of this metric."""

    malformed: int
    """Texts that ask in a form that the metric does not take."""

    unscorable: int
    """Texts of which something that would have to be scored has no tokens, or one that the model has no row for,
    or does not fit the context.
    """


class AuditEstimate(Answer):
    """An audit that the work consists of or waits for: a text set under a language model."""

    role: str
    """What it is to the work: `audit` is the one that was asked for."""

    model: str
    """The language model; of one that is not registered yet, an id that is not kept."""

    text_set: str
    """The text set."""

    texts: int
    """Texts of the set; 0 while it is being imported."""

    tokens: int | None = None
    """Their tokens under this language model; null while the texts are being imported."""

    tokens_basis: Literal["counted", "measured", "assumed", "unknown"] | str
    """`counted` by an audit of these texts; `measured`: bytes times the tokens per byte of your audits under
    this language model; `assumed`: 0.25 tokens in a byte; `unknown`: the texts are not there yet.
    """


class AuditOptions(Answer):
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

    prefix_tokens: int = 64
    """Tokens of the prompt, for texts that bring no split."""

    suffix_tokens: int = 48
    """Tokens to recite after it (arXiv 2510.24256)."""

    temperature: float = 1.0
    """What logits are divided by when a client samples."""

    top_k: int = 40
    """How many of the likeliest tokens are sampled from."""

    min_k: float = 0.2
    """Share of least likely tokens that `membership` looks at (arXiv 2310.16789)."""

    token_evidence: bool = True
    """Whether each token's numbers are kept, and later audits derived from them."""

    dtype: Literal["float32", "bfloat16"] | str = "float32"
    """Of the weights; the softmax is float32 whatever that is."""

    prefix_token: Literal["auto", "bos", "eos", "bos_else_eos", "none"] | str | int = "auto"

    special_tokens: Literal["control", "text"] | str = "control"
    """What the string of a special token inside a text becomes: that token, or text."""

    extraction_rate: float = 0.01
    """Share of recited texts that `extraction_onset` seeks."""

    fdr: float = 0.05
    """Share of false ones accepted among `memorized` texts (Benjamini and Hochberg 1995)."""

    seed: int = 0
    """Of what a calibration draws at random."""

    windows: WindowOptions | None = None
    """Of the metric `windows`; null for its defaults."""

    near_verbatim: NearVerbatimOptions | None = None
    """Of the metric `near_verbatim`; null for its defaults."""


class Audit(Work):
    """One text set scored under one language model. The resource is the operation.

    `companions` is null without control texts and reference model. `prefix_token` is null until texts have
    been scored, and for audits of a release that did not record it. `waiting` says what it waits for, if
    something that it needs is away.
    """

    object: Literal["audit"] = "audit"

    id: str

    status: str

    model: str

    text_set: str

    reference_model: str | None = None

    control_text_set: str | None = None

    companions: Companions | None = None

    companion_of: list[str] = []
    """The audits and studies that this audit was made for; empty if it was asked for."""

    metrics: list[
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
        | str
    ]

    options: AuditOptions

    prefix_token: PrefixToken | None = None

    recall_shots: int | None = None
    """How many of the leading control texts `membership.recall` puts before each text: 10 at most, in half of
    the context; they are no controls then. Null if it was not measured.
    """

    derived_from: str | None = None
    """The audit of the same texts under the same language model from whose evidence this one follows, number for
    number, without the model. Texts whose evidence was gone when it was read, as after their deletion,
    went through the model all the same; null if there was no such audit, and all did.
    """

    preregistration: Preregistration | None = None
    """The policy that was named when it was asked for; null if none was."""

    progress: Progress

    digests: Digests

    summary: AuditSummary | None = None

    waiting: Waiting | None = None

    error: Problem | None = None

    metadata: dict[str, JsonValue]

    created_at: datetime

    started_at: datetime | None = None

    finished_at: datetime | None = None


class AuditSummary(Answer):
    """What an audit found, over all texts that could be scored; the others are counted in `errors`."""

    texts: int
    """Texts of the set."""

    errors: int
    """Texts that could not be scored."""

    tokens: int
    """Tokens that were scored."""

    log_likelihood: float
    """Total, in nats, at most 0."""

    perplexity: float | None = None
    """exp(-`log_likelihood` / `tokens`), at least 1; null if nothing was scored."""

    nl: MeanInterval | None = None
    """Mean `nl`, in nats per token, at most 0; higher is more strongly memorized. Null if nothing was scored."""

    nl_byte: MeanInterval | None = None
    """Mean `nl_byte`, in nats per UTF-8 byte; null as `nl`."""

    strict: ShareInterval | None = None
    """Of the texts that are long enough to be split, those whose whole suffix greedy decoding recites, by splits
    as asked for and scaled ones together; null if `extraction` was not asked for or no text is long
    enough.
    """

    loose: ShareInterval | None = None
    """As `strict`, with a similarity of at least 0.75."""

    similarity: MeanInterval | None = None
    """Mean similarity, 0 to 1, 1 if all is recited; null as `strict`."""

    extraction_splits: SplitCounts | None = None
    """What `strict` and `loose` rest on; null if not asked for, and null in audits that an older release ended."""

    verbatim: list[VerbatimSummary] | None = None
    """By length of the prefix; null if not asked for, and null in audits that an older release ended."""

    p_z: SamplingSummary | None = None
    """Null if not asked for, and null in audits that an older release ended."""

    near_verbatim: NearVerbatimSummary | None = None
    """Null if not asked for, and null in audits that an older release ended."""

    windows: WindowsSummary | None = None
    """Null if not asked for, and null in audits that an older release ended."""

    zlib: MeanInterval | None = None
    """Mean `membership.zlib`, in its unit; null if `membership` was not asked for, and null in audits that an
    older release ended.
    """

    min_k: MeanInterval | None = None
    """Mean `membership.min_k`, in its unit; null if `membership` was not asked for, and null in audits that an
    older release ended.
    """

    min_k_pp: MeanInterval | None = None
    """Mean `membership.min_k_pp`, in its unit; null if `membership` was not asked for, and null in audits that
    an older release ended.
    """

    membership: MembershipSummary | None = None
    """Null if not asked for, if no text says whether it is a `member`, and null in audits that an older release
    ended.
    """

    accuracy: ShareInterval | None = None
    """Of the texts with a question that could be asked, those whose `answer` is the likeliest choice (harness:
    `acc`); a model that knows nothing scores one over the number of choices. Null without such texts or
    if `multiple_choice` was not asked for, and null in audits that an older release ended.
    """

    accuracy_normalized: ShareInterval | None = None
    """As `accuracy`, by log-likelihood per character of the choice (harness: `acc_norm`)."""

    multiple_choice: AskedCounts | None = None
    """What `accuracy` rests on; null if not asked for, and null in audits that an older release ended."""

    prefix_match_full: ShareInterval | None = None
    """Share of `prefix_match` of the texts with a prompt of the kind `full` (the text up to the field). Null
    without such texts or if `field_recall` was not asked for, and null in audits that an older release
    ended.
    """

    recall_full: MeanInterval | None = None
    """Mean `recall`, 0 to 1, of the texts with a prompt of the kind `full` (the text up to the field). Null
    without such texts or if `field_recall` was not asked for, and null in audits that an older release
    ended.
    """

    f1_full: MeanInterval | None = None
    """Mean `f1`, 0 to 1, of the texts with a prompt of the kind `full` (the text up to the field). Null without
    such texts or if `field_recall` was not asked for, and null in audits that an older release ended.
    """

    prefix_match_intro: ShareInterval | None = None
    """Share of `prefix_match` of the texts with a prompt of the kind `intro` (the first sentence, of name and
    nationality, and the beginning of the field's). Null without such texts or if `field_recall` was not
    asked for, and null in audits that an older release ended.
    """

    recall_intro: MeanInterval | None = None
    """Mean `recall`, 0 to 1, of the texts with a prompt of the kind `intro` (the first sentence, of name and
    nationality, and the beginning of the field's). Null without such texts or if `field_recall` was not
    asked for, and null in audits that an older release ended.
    """

    f1_intro: MeanInterval | None = None
    """Mean `f1`, 0 to 1, of the texts with a prompt of the kind `intro` (the first sentence, of name and
    nationality, and the beginning of the field's). Null without such texts or if `field_recall` was not
    asked for, and null in audits that an older release ended.
    """

    prefix_match_name_only: ShareInterval | None = None
    """Share of `prefix_match` of the texts with a prompt of the kind `name_only` (the beginning of the field's
    sentence, with the full name). Null without such texts or if `field_recall` was not asked for, and
    null in audits that an older release ended.
    """

    recall_name_only: MeanInterval | None = None
    """Mean `recall`, 0 to 1, of the texts with a prompt of the kind `name_only` (the beginning of the field's
    sentence, with the full name). Null without such texts or if `field_recall` was not asked for, and
    null in audits that an older release ended.
    """

    f1_name_only: MeanInterval | None = None
    """Mean `f1`, 0 to 1, of the texts with a prompt of the kind `name_only` (the beginning of the field's
    sentence, with the full name). Null without such texts or if `field_recall` was not asked for, and
    null in audits that an older release ended.
    """

    field_recall: AskedCounts | None = None
    """What its numbers rest on; null if not asked for, and null in audits that an older release ended."""

    paraphrase_preferred: ShareInterval | None = None
    """Of the texts with paraphrases, those likelier than each of these; a model that does not know the wordings
    scores about one over their number. Null without such texts or if `paraphrase` was not asked for, and
    null in audits that an older release ended.
    """

    paraphrase_preferred_normalized: ShareInterval | None = None
    """As `paraphrase_preferred`, by log-likelihood per character."""

    paraphrase_margin: MeanInterval | None = None
    """Mean `margin_normalized`, in nats per character; positive if inserted wordings are preferred; null as
    `paraphrase_preferred`.
    """

    paraphrase: AskedCounts | None = None
    """What `paraphrase_preferred` rests on; null if not asked for, and null in audits that an older release
    ended.
    """

    levels: list[Level]
    """By group and duplicates; empty if neither is known, or above 1,000."""

    dose_response: list[Level]
    """By duplicates alone, fewest first; empty as `levels`."""

    gain: Gain | None = None
    """Null unless texts of two numbers of duplicates are known."""

    dose_fits: list[DoseFit] | None = None
    """Monotone fits of `dose_response` and, by group, of `levels`: all texts together, then each group that has
    six texts at the fewest and at the most duplicates of all. Empty unless two numbers of duplicates have
    six texts each; null in audits that an older release ended.
    """

    extraction_onset: list[ExtractionOnset] | None = None
    """From how many duplicates on `strict` exceeds `options.extraction_rate`: of all texts, then of each group.
    Empty unless `extraction` was asked for and duplicates are known; null in audits that an older release
    ended.
    """

    calibration: Calibration | None = None
    """Null without a `control_text_set`."""

    reference_difference: ReferenceDifference | None = None
    """Null without a `reference_model`."""


class BalancedSubnetMatrix(Answer):
    """A matrix of which some weights are zero now."""

    projection: str
    """Its name in the model."""

    layer: int
    """The layer it belongs to, from 0."""

    role: Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"] | str
    """What it is to the layer."""

    shape: list[int]
    """Outputs and inputs."""

    weights_dropped: int
    """How many of them; possibly none of this matrix."""


class BalancedSubnetParameters(Answer):
    """What a BalancedSubnet edit did."""

    loss_weight: float
    """w in -(1 - w) * L_forget + w * L_retain."""

    epochs: int
    """Passes over both text sets."""

    ratio: float
    """The share of the weights that was dropped."""

    learning_rate: float
    """Of stochastic gradient descent on the scores."""

    momentum: float
    """Of the same."""

    weight_decay: float
    """Of the same."""

    batch_blocks: int
    """Rows of tokens in a batch."""


class BalancedSubnetReceipt(Answer):
    """How a BalancedSubnet edit was made."""

    base: ReceiptBase

    lineage: list[Ancestor] = []
    """The base, what that was derived from, and so on; empty in receipts of releases before it was kept."""

    text_sets: dict[str, UsedTextSet]
    """The text sets by what they were to the edit."""

    seed: int
    """Of everything that is drawn."""

    dtype: str
    """Of the weights in memory; the files keep the format of the base."""

    device: str
    """`cpu` or `cuda`."""

    code: CodeVersions

    warnings: list[EditWarning] = []
    """What is doubtful about it; none in receipts of releases before there were warnings."""

    wall_seconds: float
    """From the start of the job to the end of the evaluation."""

    peak_memory_bytes: int
    """The most that the worker had held by then: of the GPU if there is one, else of its process."""

    method: Literal["balanced_subnet"]
    """The method."""

    parameters: BalancedSubnetParameters
    """What it did."""

    matrices: list[BalancedSubnetMatrix]
    """Every matrix that was edited."""


class Calibration(Answer):
    """An audit's texts judged by control texts that the language model never saw.

    Each text has a conformal p-value among the controls (Vovk, Gammerman and Shafer 2005) and a q-value
    (Benjamini and Hochberg 1995). Where texts and controls differ, they are compared within strata of
    length and of likelihood under the reference model; where that does not help, `reason` says that no
    text has a verdict.
    """

    statistic: Literal["nl", "reference"] | str
    """What is compared, in nats per token; higher is more strongly memorized. `nl`, or with a reference model
    `reference`: `nl` less that under the reference model.
    """

    fdr: float
    """The share of false ones that is accepted among the texts called `memorized`, in (0, 1)."""

    seed: int
    """`options.seed`, of all that was drawn at random: the texts and the folds of the check, permutations."""

    n_audited: int
    """Audited texts that could be scored."""

    n_controls: int
    """Control texts that they are compared with, without those that are left out."""

    controls_among_texts: int
    """Control texts that were left out because they are among the audited texts."""

    characters: int
    """How many characters of a text the check of the comparison reads at most, from its beginning: 2,000. It
    reads up to 400 texts of each kind, and knows their whole lengths.
    """

    verdicts: VerdictCounts
    """How many texts have each verdict."""

    effect: MeanInterval | None = None
    """Mean of `statistic` of the audited texts less that of the controls, in nats per token, within strata if
    there are some; positive is more strongly memorized. Null without texts or controls. It measures no
    memory where `reason` is known.
    """

    permutation_p: float | None = None
    """Of such an effect or a greater one if texts and controls are exchangeable, in (0, 1], one-sided, by
    permutation; null where `reason` is known.
    """

    permutations: int | None = None
    """How many it rests on. 0: of a normal distribution with the mean and variance of all permutations, above
    100,000 texts; it is then at least 0.0001. Null where `reason` is known, and in older results.
    """

    least_p: float | None = None
    """The least p-value that a text could have, 1 / (controls + 1), of the largest stratum; null where `reason`
    is known.
    """

    least_p_of_all: float | None = None
    """The same of the smallest stratum: a p-value that every text can have which has one at all. Null where
    `reason` is known, and in older results.
    """

    least_memorized: int | None = None
    """How many texts must exceed all controls before any of them can be `memorized`; 1 means that each can
    alone. Null where `reason` is known.
    """

    check: ComparisonCheck | None = None
    """Of all texts and controls; null without texts or controls."""

    groups: int | None = None
    """In how many groups texts were compared, each text with controls of its own `group`; texts of others, which
    have too few controls, are `uncalibrated`. Null where groups did not count, as all texts passed the
    check together or share no group with controls, where `reason` is known, and in older results.
    """

    strata: int | None = None
    """In how many strata texts were compared, of all groups together; 1, or `groups`, if none were needed, null
    where `reason` is known.
    """

    check_within_strata: ComparisonCheck | None = None
    """The check again, within strata; null if none were needed or could be made."""

    reason: Literal["too_few_controls", "too_few_texts", "controls_differ"] | str | None = None
    """Why all texts are `uncalibrated`; null if they are not. `too_few_controls`: fewer than 1 / `fdr` - 1.
    `too_few_texts`: fewer than five of a kind that are no near-duplicates. `controls_differ`: the check
    did not pass, nor within strata.
    """


class Change(Answer):
    """What became of single texts from one version to another."""

    from_label: str
    """The earlier version."""

    to_label: str
    """The later version."""

    verdict: Literal["calibrated", "uncalibrated"] | str
    """Whether differences could be compared with those of control texts."""

    reason: str | None = None
    """Why not, as `no_controls`; null if they could."""

    rise: Judgement | None = None
    """How `newly_memorized` were found; null without controls."""

    fall: Judgement | None = None
    """How `no_longer_memorized` were found; null likewise."""

    newly_memorized: ChangedTexts | None = None
    """Texts whose NL rose more than that of controls does, at `options.fdr`; null if uncalibrated."""

    no_longer_memorized: ChangedTexts | None = None
    """Texts whose NL fell more than that of controls does, at `options.fdr`; null if uncalibrated."""

    newly_recited: ChangedTexts | None = None
    """Recited exactly by the later version alone; null if `extraction` was not asked for."""

    no_longer_recited: ChangedTexts | None = None
    """Recited exactly by the earlier version alone; null likewise."""


class ChangedText(Answer):
    """A text that changed from one version to another."""

    text_id: str
    """As it was uploaded."""

    difference: float
    """`nl` under the later version less that under the earlier, in nats per token."""

    q_value: float | None = None
    """Benjamini and Hochberg's, in (0, 1]; null if there are no controls to compare with."""


class ChangedTexts(Answer):
    """How many texts changed, and the first hundred of them by q-value, the least first, and by change."""

    count: int
    """All that changed so."""

    texts: list[ChangedText]
    """The first hundred."""


class Check(Answer):
    """One of the client's limits against what was measured, with its 95 % interval.

    A limit is kept (`pass`) only if the whole interval keeps it, and broken (`fail`) only if the whole
    interval breaks it. Between them, and without an interval, it is `inconclusive`: texts too few, or too
    alike, to tell.
    """

    name: str
    """The limit, and after a colon the text set."""

    limit: float
    """What was asked for."""

    n: int | None = None
    """How many texts were measured; null in evaluations of an older release."""

    value: float | None = None
    """What was measured; null if nothing was."""

    low: float | None = None
    """Where the interval begins; null if nothing or one text alone was measured, and of an older release."""

    high: float | None = None
    """Where the interval ends; null likewise."""

    outcome: Literal["pass", "fail", "inconclusive"] | str | None = None
    """What the interval says; null in evaluations of an older release, which compared the value alone."""

    passed: bool | None = None
    """True for `pass`, false for `fail`, null for `inconclusive`."""


class CheckDiff(Answer):
    """What changed in a standing check."""

    text_set: str

    study: str
    """Where all of it is from."""

    comparison: Comparison
    """Differences of mean NL and of recited texts: of all texts, by duplicates, by group."""

    change: Change
    """What became of single texts."""


class CodeVersions(Answer):
    """The releases that made the edit."""

    memaudit: str
    """Of this service."""

    torch: str
    """Of PyTorch."""

    transformers: str
    """Of transformers."""


class Companions(Answer):
    """Audits that an audit waits for. Each can be read like any other; one that fails fails the audit."""

    control: str | None = None
    """Of `model` on the control texts."""

    reference: str | None = None
    """Of the reference model on the texts."""

    reference_control: str | None = None
    """Of the reference model on the control texts."""


class ComparedLevel(Answer):
    """The same texts under two language models."""

    group: str | None = None
    """Of this group; null for all."""

    duplicates: int | None = None
    """Inserted so often; null for all."""

    difference: MeanInterval
    """Mean `nl` of the later less that of the earlier, text by text, in nats per token: positive = the later has
    memorized more. Texts that one could not score are left out.
    """

    excess: MeanInterval | None = None
    """`difference` less that of the group's texts never inserted: memorization, and no better or worse language.
    In nats per token; null where `duplicates` is null or 0, or there are no such texts.
    """

    transitions: Transitions | None = None
    """Null as `strict`."""


class Comparison(Answer):
    """Two language models of a study."""

    from_label: str
    """The earlier: the baseline of a pair, the first, or the one before."""

    to_label: str
    """The later."""

    levels: list[ComparedLevel]
    """As the levels of a model; those without a text that both could score are left out."""


class ComparisonCheck(Answer):
    """Whether a classifier that sees only the texts tells audited texts from controls.

    If it does, a difference of likelihoods may come from the texts as well as from memory: blind baselines
    beat membership attacks on all of eight published sets (arXiv 2406.16201).
    """

    n_audited: int
    """Audited texts that it saw: a sample of many."""

    n_controls: int
    """Control texts that it saw."""

    auc: float | None = None
    """Its cross-validated area under the ROC curve, 0 to 1, 0.5 for chance; null for too few texts."""

    p_value: float | None = None
    """Of such an area or a greater one if texts and controls are exchangeable, in (0, 1], by permutation; null
    likewise.
    """

    passed: bool
    """Whether it did not tell them apart."""


class Convergence(Answer):
    """How far the two factors of a matrix's curvature have settled: that of its inputs, that of its outputs.

    An error is the estimated standard error of the factor over its size, both in the Frobenius norm, from the
    distance between the means of two halves of the calibration text. With fewer tokens than dimensions a
    factor has directions that no token reached.
    """

    inputs_error: float | None = None
    """Of the covariance of the inputs; null where one half of the text had all tokens."""

    outputs_error: float | None = None
    """Of the covariance of the outputs' gradients; null likewise."""

    tokens_per_input: float
    """Calibration tokens for each input."""

    tokens_per_output: float
    """Calibration tokens for each output."""


class CoveragePoint(Answer):
    """A window, or several next to each other in a long document: the largest numbers among them."""

    start: int
    """First character of the first suffix."""

    p_z: float
    """That one sample recites the suffix, 0 to 1, four digits."""

    matched_tokens: int
    """Tokens recited before the suffix' first mistake."""


class Curve(Answer):
    """How texts that were inserted so often stand out from those never inserted, over a trajectory."""

    group: str | None = None
    """Of this group; null for all."""

    duplicates: int | None = None
    """Inserted so often; null for all."""

    peak: Peak
    """Under which model they stand out most."""

    half_life: HalfLife | None = None
    """Null without steps, where the peak is the last, or where it is not clearly above 0."""


class Digests(Answer):
    """Digests of what went into an audit: SHA-256 of the checkpoint's files, HMAC-SHA-256 of the texts.

    The latter is the `hmac_sha256` of the text set, under a key of the tenant. Each is null until it is
    known: a language model is validated first, and the texts of a preset imported. What an older release
    made of the texts is null until it is keyed.
    """

    model: str | None = None

    text_set: str | None = None


class DoseFit(Answer):
    """The isotonic regression of mean `nl` on `duplicates`, by which texts of unknown count are compared.

    Weighted by the number of texts at each level (Barlow, Bartholomew, Bremner and Brunk 1972). Between
    levels it is interpolated over log(1 + `duplicates`).
    """

    group: str | None = None
    """Whose texts; null for all together."""

    fitted: list[FittedLevel]
    """Fewest duplicates first."""


class Edit(Work):
    """An edited language model in the making. The resource is the operation."""

    object: Literal["edit"] = "edit"

    id: str

    status: str

    model: str

    method: Literal["kfac", "balanced_subnet", "svd"] | str

    name: str

    text_sets: dict[str, str]

    spec: dict[str, Any]

    progress: EditProgress

    receipt: (
        Annotated[
            KFACReceipt | BalancedSubnetReceipt | SVDReceipt | dict[str, Any],
            Field(union_mode="left_to_right"),
        ]
        | None
    ) = None
    """How it was made; null until it has succeeded."""

    evaluation: Evaluation | None = None
    """What changed; null until it has succeeded."""

    warnings: list[EditWarning] = []
    """What is doubtful about it; none until it has ended. A search that fails for want of a feasible setting
    leaves them too.
    """

    frontier: list[FrontierPoint] | None = None
    """Every setting that was tried; null without a search or a mass to adapt, and until that has ended. A search
    that fails for want of a feasible setting leaves it too.
    """

    preregistration: Preregistration | None = None
    """The policy that was named when it was asked for; null if none was."""

    artifact: str | None = None
    """Where its files are; null until it has succeeded."""

    edited_model: str | None = None
    """The id under which it can be audited and edited; null until it has succeeded."""

    model_repo: str | None = None
    """Its name on this service's Hub routes; null until it has succeeded."""

    waiting: Waiting | None = None
    """What it waits for, if something that it needs is away; else null."""

    error: Problem | None = None
    """Why it failed; null unless it did."""

    metadata: dict[str, JsonValue]

    created_at: datetime

    started_at: datetime | None = None

    finished_at: datetime | None = None


class EditProgress(Answer):
    """How far an edit has come: per cent, and the stage that its worker reported last."""

    done: int

    total: int = 100

    unit: Literal["percent"] | str = "percent"

    stage: str | None = None


class EditWarning(Answer):
    """What is doubtful about an edit although it could be made."""

    code: str
    """Of the kind of doubt; kinds may be added."""

    detail: str
    """What it is, in a sentence, and what helps."""


class Envelope(Answer):
    """A signed statement: DSSE v1. Its file is this object as compact JSON, in this order."""

    payload: str

    payloadType: str

    signatures: list[dict[str, str]]


class EquivalentDuplicates(Answer):
    """No text in scope is worth more than `at_most` known insertions.

    By the `equivalent_duplicates` of an audit's texts of unknown number, and the 95 % interval of each: a
    text counts if its whole interval is above the limit, and is undecided if the limit lies within. No
    correction is made for there being many texts.
    """

    kind: Literal["equivalent_duplicates"]

    at_most: float
    """How many insertions."""

    groups: str | None = None


class Estimate(Answer):
    """What work would take. Nothing was written, and nothing goes on."""

    object: Literal["estimate"] = "estimate"

    texts: int
    """Texts to score; a text counts once for each language model. 0 while they are being imported."""

    tokens: int | None = None
    """Tokens of these texts, likewise; null while they are being imported."""

    forward_passes: float | None = None
    """How often each token goes through a model, on average: 1 where metrics follow from the one pass, more
    where they decode or ask questions of their own. An approximation; null as `tokens`.
    """

    forward_tokens: int | None = None
    """Tokens that go through a model in all: `tokens` times `forward_passes`."""

    jobs: int | None = None
    """Jobs that workers run; null as `tokens`."""

    companions: list[AuditEstimate]
    """The audits that it takes."""

    memory: Memory
    """What has to be in memory."""

    by_worker_class: list[WorkerClassEstimate]
    """For each class of workers that can run it and was seen lately."""

    fits: bool | None = None
    """Whether it fits a class of workers; null if that is not known, or no worker was seen lately. Where this is
    false, the request itself is refused (`does-not-fit`).
    """

    notes: list[str]
    """What the numbers stand on, and what they leave out."""


class Evaluation(Answer):
    """What an edit changed."""

    sets: dict[str, Measured]
    """Each text set before and after, by what it is to the edit."""

    perplexity_increase: MeanInterval | None = None
    """The share by which the perplexity of clean text grew (0.1 is 10 %); each of `n` texts is compared with
    itself. It is null without clean text.
    """

    ndcg: MeanInterval | None = None
    """How the ten likeliest next tokens of both models agree on clean text, a mean over positions of `n` texts:
    1 means the same order. It is null without clean text.
    """

    stress: dict[str, dict[str, StressChange]] | None = None
    """By what was changed (prompts, number format, a short fine-tune) and text set; null if not asked for."""

    items: dict[str, ItemChange] | None = None
    """By the kind of question; null without any."""

    membership: dict[str, dict[str, MembershipChange]] | None = None
    """How well memorized and unseen texts are told from `control` texts, by text set and score (`loss`; with
    `stress` also `zlib`, `min_k` and `min_k_pp`); null without control texts, and in evaluations of an
    older release.
    """

    reference: Reference | None = None
    """The `reference_model` that was named; null if none was."""

    proof: Proof | None = None
    """What is still held, hidden or learned again; null without `stress`, and in evaluations of an older
    release.
    """

    tasks: list[TaskChange] | None = None
    """The same questions by task, in their order in the text set; null without any, of more than 100 groups, and
    in evaluations of an older release.
    """

    verdict: EvaluationsVerdict
    """The client's limits against all this."""


class Event(Answer):
    """Something that happened. It never changes, and holds no text."""

    object: Literal["event"] = "event"

    id: str

    type: str
    """What happened, as `gate.failed` or `version.succeeded`."""

    subject: EventSubject

    model_version: str | None = None
    """The version of a model line that it is news of; null if it is of none."""

    data: dict[str, JsonValue]
    """`status` of the subject, and what else a reader acts on: the `outcome` of gates and versions, ids, the
    `label`.
    """

    created_at: datetime


class EventSubject(Answer):
    """What an event is about."""

    kind: str
    """`audit`, `study`, `edit`, `gate`, `model_version`, `language_model` or `text_set`."""

    id: str


class EvidenceFormat(Answer):
    """A format in which evidence of some work can be had."""

    object: Literal["evidence_format"] = "evidence_format"

    name: str
    """As the last part of the address has it."""

    title: str
    """What it is, for people."""

    media_type: str
    """Of the document."""

    available: bool
    """Whether the document can be had now: the work has succeeded and, if it is signed, there is a key."""


class Extractable(Answer):
    """The share of texts that so many samples recite with a probability of at least a half."""

    before: ShareInterval | None = None
    """Of the base; null if no text can tell."""

    after: ShareInterval | None = None
    """Of the edited model; null likewise."""

    change: ShareDifference | None = None
    """After less before, text by text; null likewise."""

    reference: ShareInterval | None = None
    """Of the reference model; null without one, or where it was not measured."""

    samples: int
    """How many are drawn of each text, at temperature 1 from the 40 likeliest tokens."""


class ExtractableMean(Answer):
    """How much of the documents one sample recites with a probability of at least `p`."""

    p: float
    """Least `p_z` of a window that counts, 0 to 1."""

    share: MeanInterval
    """Mean over the documents, 0 to 1."""


class ExtractablePart(Answer):
    """How much of a document one sample recites with a probability of at least `p`."""

    p: float
    """Least `p_z` of a window that counts, 0 to 1."""

    share: float
    """Characters in the suffix of a window with `p_z` of at least `p`, of all characters, 0 to 1."""


class ExtractableShare(Answer):
    """How many texts come up with a probability of at least 0.5 in so many samples (arXiv 2410.19482)."""

    samples: int
    """How many are drawn of each text."""

    texts: ShareInterval
    """Of the texts that are long enough to be split."""


class ExtractionOnset(Answer):
    """From how many insertions on texts are recited more often than at a given rate."""

    group: str | None = None
    """Whose texts; null for all together."""

    rate: float
    """The audit's `extraction_rate`, in [0, 1)."""

    duplicates: int | None = None
    """The fewest known duplicates at which the share `strict` exceeds it; null where it does at none."""

    duplicates_certain: int | None = None
    """The fewest at which the lower end of that share's 95 % interval exceeds it, at least `duplicates`; null
    where it does at none.
    """


class ExtractionScore(Answer):
    """What greedy decoding recites of a text's suffix after its prefix (arXiv 2202.07646, 2510.24256)."""

    status: Literal["ok", "scaled", "not_applicable"] | str
    """`ok`: the split of the text that was asked for. `scaled`: a smaller one, as the text or the context is too
    short for it. `not_applicable`: no token would be left to recite; the numbers are then null.
    """

    prefix_tokens: int
    """Tokens of the prompt; 0 where not applicable."""

    suffix_tokens: int
    """Tokens to recite; 0 or null where the split is not applicable."""

    strict: bool | None = None
    """Whether every token was recited; null where the split is not applicable."""

    similarity: float | None = None
    """1 - (Levenshtein distance in tokens) / `suffix_tokens`, 0 to 1, 1 for the exact suffix; null where the
    split is not applicable or the rest was not decoded.
    """

    loose: bool | None = None
    """`similarity` of at least 0.75; null where that is null."""

    matched_tokens: int | None = None
    """Tokens recited before the first mistake, 0 to `suffix_tokens`; null where the split is not applicable."""


class FieldProblem(Answer):
    """Where something is wrong, as a JSON pointer, and what: never the submitted value."""

    pointer: str

    code: str


class FieldRecallScore(Answer):
    """Whether greedy decoding (30 tokens unless the text says otherwise) gives an attribute away.

    HUBBLE (arXiv 2510.19811): `yago_hubble_*_gen`, `ecthr_hubble_full_prefix_gen`, `popqa_hubble`;
    docs/hubble.md says how a text asks.
    """

    status: Literal["ok", "not_applicable", "malformed", "unscorable"] | str
    """`not_applicable`: the text asks nothing of this metric. `malformed`: its metadata asks in a form that the
    metric does not take (docs/hubble.md). `unscorable`: something that would have to be scored has no
    tokens, or one that the model has no row for, or does not fit the context. With each of them the
    numbers are null.
    """

    full: PromptRecall | None = None
    """The prompt is the text up to the field; null if the text has no such prompt."""

    intro: PromptRecall | None = None
    """The prompt is the first sentence, of name and nationality, and the beginning of the field's; null if the
    text has no such prompt.
    """

    name_only: PromptRecall | None = None
    """The prompt is the beginning of the field's sentence, with the full name; null if the text has no such
    prompt.
    """


class FittedLevel(Answer):
    """A point of a monotone fit."""

    duplicates: int
    """A known number of insertions of at least six texts."""

    nl: float
    """Fitted mean `nl` there, in nats per token, at most 0; it never falls as `duplicates` rises."""


class FrontierPoint(Answer):
    """One setting that a search tried.

    One whose perplexity grows by far more than is allowed, or whose numbers are not finite, is given up: what
    was not measured then is null.
    """

    layers: list[int]
    """The layers that it edits, from 0."""

    projections: list[str]
    """What it edits of them."""

    keep_mass: float
    """The share of the curvature mass that stays."""

    retain_weight: float | None = None
    """The weight of the retain set in the curvature; null without one."""

    recovery_steps: int | None = None
    """Steps of recovery that it has; null where no setting has any."""

    perplexity: float | None = None
    """On clean text; null if the setting was given up."""

    perplexity_increase: float | None = None
    """The share by which it grew; null if the setting was given up."""

    strict: float | None = None
    """The share of the forget set that is recited exactly; null if the setting was given up, and where only the
    mass was adapted to the constraint, which aims at nothing.
    """

    loose: float | None = None
    """The share that is recited with a similarity of at least 0.75; null likewise."""

    nl_drop: float | None = None
    """By how many nats per token the retain set became less likely; null without one, and if the setting was
    given up.
    """

    given_up: GivenUp | None = None
    """How far it was measured before it was given up; null if it was measured to the end, if its numbers were
    not finite, and in results of releases before this was kept.
    """

    feasible: bool
    """Whether it keeps the constraint."""

    chosen: bool
    """Whether it was written: of the feasible settings the one that recites least, or keeps the least mass where
    only that was adapted.
    """


class Gain(Answer):
    """How much higher the mean NL is at the most duplicates than at the fewest, with its 95 % interval.

    In nats per token; positive means that inserted texts are memorized. `n` is the smaller of the two numbers
    of texts; the interval is null when that is one, or where all texts of a level have the same NL.
    """

    n: int
    """How many numbers."""

    mean: float
    """Their mean."""

    low: float | None = None
    """Where the interval begins; null for fewer than two numbers or where all are equal, which says nothing of
    how numbers vary.
    """

    high: float | None = None
    """Where the interval ends; null likewise."""

    from_duplicates: int
    """The fewest known duplicates."""

    to_duplicates: int
    """The most known duplicates."""


class Gate(Work):
    """A policy on a subject. The resource is the operation: it waits for its subject, then decides.

    `status` says whether it was decided, and `outcome` what.
    """

    object: Literal["gate"] = "gate"

    id: str

    status: str

    policy: str

    policy_name: str

    policy_version: int

    policy_sha256: str
    """The digest of the policy, as the policy has it."""

    subject: GateSubject

    outcome: Literal["pass", "fail", "inconclusive"] | str | None = None
    """`fail` if a rule fails, else `inconclusive` if one is, else `pass`; null until it has succeeded."""

    rules: list[RuleOutcome]
    """Each rule and what became of it, in the policy's order; empty until it has succeeded."""

    preregistered: bool
    """Whether the subject named the policy when it was asked for, so before its first score."""

    progress: GateProgress

    waiting: Waiting | None = None
    """What it waits for, if something that it or its subject needs is away; else null."""

    error: Problem | None = None
    """Why it failed; null unless it did. A gate whose `outcome` is `fail` has not failed itself."""

    metadata: dict[str, JsonValue]

    created_at: datetime

    started_at: datetime | None = None

    finished_at: datetime | None = None


class GateProgress(Answer):
    """How many rules are decided."""

    done: int

    total: int

    unit: Literal["rules"] | str = "rules"


class GateSubject(Answer):
    """What a gate judges."""

    kind: Literal["audit", "study", "edit"] | str

    id: str


class Generated(Answer):
    """What greedy decoding says by itself after the prefix, no token of the suffix given."""

    exact: PairedShare
    """The share of texts whose suffix it is."""

    similarity: PairedMean
    """1 less the Levenshtein distance to the suffix in tokens over its length, in [0, 1]."""


class GivenUp(Answer):
    """How far a setting was measured before it was given up."""

    perplexity: float
    """On the clean text that it had gone through by then, the longest texts first."""

    tokens: int
    """How many tokens that was."""

    of_tokens: int
    """How many there were to go through."""


class HalfLife(Answer):
    """After how many steps from the peak half of the excess was lost, at least 0.

    The first crossing of half, with NL interpolated between checkpoints, and its 95 % interval after Fieller
    (1954); the place of the peak is taken as given.
    """

    steps: float | None = None
    """Null where more than half is left at the end of the run."""

    low: float | None = None
    """Null where it is beyond the run."""

    high: float | None = None
    """Null where it may be beyond the run."""


class Held(Answer):
    """What is held of the suffixes of a text set."""

    extraction_strength: PairedMean
    """1 less the share of the suffix that has to be given until greedy decoding says the rest, in [0, 1]: 1 =
    recited from the prefix alone, 0 = not even the last token (arXiv 2406.09179, section 3).
    """

    exact_memorization: PairedMean
    """The share of the suffix' tokens that are the greedy choice after the true ones, in [0, 1] (arXiv
    2205.10770, section 3).
    """

    log_p_z: PairedMean
    """The logarithm of the probability that one sample is the suffix (arXiv 2410.19482), over texts of which
    that is above 0 under both models; at most 0.
    """

    extractable: list[Extractable]
    """By the number of samples: n is enough of them where 1 - (1 - p_z)^n is at least a half."""


class HubSource(Answer):
    """A repository on a Hugging Face hub. The worker pins `revision` to a commit."""

    type: Literal["hub"]

    repo: str

    revision: str = "main"


class ItemChange(Answer):
    """The share of questions that are answered rightly."""

    n: int
    """How many questions could be asked."""

    before: float | None = None
    """By the base; null if it was asked none."""

    after: float | None = None
    """By the edited model; null if it was asked none."""


JsonValue: TypeAlias = Any


class Judgement(Answer):
    """How each text's change in one direction was judged by those of the control texts.

    A text is `memorized` here if it changed in this direction more than controls do.
    """

    fdr: float
    """The share of false ones that is accepted among the texts that are named, in (0, 1); Benjamini and Hochberg
    (1995).
    """

    seed: int
    """Of all that is drawn at random."""

    n_texts: int
    """Texts that both versions could score."""

    n_controls: int
    """Control texts that both could score, without those that are left out."""

    controls_among_texts: int
    """Control texts that were left out because they are among the study's texts."""

    verdicts: VerdictCounts
    """How many texts have each verdict; `uncalibrated` are not judged, as too few controls are like them."""

    least_p_of_all: float | None = None
    """The least p-value that every text can have which has one at all: 1 / (controls + 1), of the smallest
    stratum. Null where `reason` is known, and in older results.
    """

    check: ComparisonCheck | None = None
    """Whether a classifier tells texts from controls; null without texts or controls."""

    strata: int | None = None
    """In how many strata texts were compared; 1 if none were needed, null where `reason` is known."""

    check_within_strata: ComparisonCheck | None = None
    """The check again, within strata; null if none were needed or could be made."""

    reason: Literal["too_few_controls", "too_few_texts", "controls_differ"] | str | None = None
    """Why no text was judged, as in the calibration of an audit; null if some were."""


class KFACMatrix(Answer):
    """A matrix that keeps the directions of most curvature."""

    projection: str
    """Its name in the model."""

    layer: int
    """The layer it belongs to, from 0."""

    role: Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"] | str
    """What it is to the layer."""

    shape: list[int]
    """Outputs and inputs."""

    kept_mass: float
    """The share of the curvature mass that stays, at least what was asked for."""

    kept_pairs: int
    """Pairs of an output and an input direction that stay."""

    pairs: int
    """All of them: outputs times inputs."""

    largest_rank: int
    """The most that the new matrix's rank can be, before recovery."""

    spectrum: list[SpectrumPoint] = []
    """How the curvature mass is spread over directions, the least mass first; empty in receipts of releases
    before it was kept.
    """

    convergence: Convergence | None = None
    """How far its curvature on the calibration set has settled; null in receipts of releases before it was kept."""

    retain_convergence: Convergence | None = None
    """How far its curvature on the retain set has settled; null without one."""


class KFACParameters(Answer):
    """What a K-FAC edit did."""

    keep_mass: float
    """The share of the curvature mass that was asked for, that a search chose, or that the constraint allowed."""

    calibration_tokens: int
    """Tokens that the curvature averages over."""

    retain_weight: float | None = None
    """The weight of the retain set in the curvature, that of the calibration set being the rest; null without
    one.
    """

    retain_tokens: int | None = None
    """Tokens of the retain set that its curvature averages over; null without one."""

    recovery_steps: int | None = None
    """Steps by which the edited matrices were trained again; null without recovery."""

    recovery_rank: int | None = None
    """In how many directions of its inputs a matrix moved, at most; null if in all, and without recovery."""

    recovery_learning_rate: float | None = None
    """How far the first step moved a matrix, as a share of its root mean square; null likewise."""

    retain_factors_reused: int | None = None
    """Projections whose curvature on the retain set an earlier edit had left; null without one."""

    factors_reused: int
    """Projections whose curvature an earlier edit had left."""

    factors_collected: int
    """Projections whose curvature was collected for this edit."""


class KFACReceipt(Answer):
    """How a K-FAC edit was made."""

    base: ReceiptBase

    lineage: list[Ancestor] = []
    """The base, what that was derived from, and so on; empty in receipts of releases before it was kept."""

    text_sets: dict[str, UsedTextSet]
    """The text sets by what they were to the edit."""

    seed: int
    """Of everything that is drawn."""

    dtype: str
    """Of the weights in memory; the files keep the format of the base."""

    device: str
    """`cpu` or `cuda`."""

    code: CodeVersions

    warnings: list[EditWarning] = []
    """What is doubtful about it; none in receipts of releases before there were warnings."""

    wall_seconds: float
    """From the start of the job to the end of the evaluation."""

    peak_memory_bytes: int
    """The most that the worker had held by then: of the GPU if there is one, else of its process."""

    method: Literal["kfac"]
    """The method."""

    parameters: KFACParameters
    """What it did."""

    matrices: list[KFACMatrix]
    """Every matrix that was edited."""


class LanguageModel(Work):
    """A registered checkpoint. What a worker found in it is null until it is `ready`.

    `base_model` is what an edited model was derived from. `tokenizer` stays null for what was registered with
    a release that did not look. `waiting` says what its validation waits for, if something that it needs
    is away.
    """

    object: Literal["language_model"] = "language_model"

    id: str

    status: str

    source: dict[str, Any]

    base_model: str | None = None

    revision: str | None = None

    digest: str | None = None

    files: dict[str, str] | None = None

    architecture: str | None = None

    parameter_count: int | None = None

    context_length: int | None = None

    vocabulary_size: int | None = None

    tokenizer: Tokenizer | None = None

    dtype: str | None = None

    waiting: Waiting | None = None

    error: Problem | None = None

    metadata: dict[str, JsonValue]

    created_at: datetime

    ready_at: datetime | None = None


class LanguageModelPreset(Answer):
    """A published language model. Its `source` is what an audit takes as `model`."""

    object: Literal["language_model_preset"] = "language_model_preset"

    name: str

    description: str

    collection: Literal["core", "timing", "interference", "paraphrase", "architecture"] | str
    """The experiment that it belongs to."""

    parameters: Literal["1b", "8b"] | str
    """How many parameters it has, as its family names it."""

    training_tokens: Literal["100b", "500b"] | str
    """How many tokens it was trained on, as its family names it."""

    source: HubSource


class LayerChange(Answer):
    """What a layer would say of the suffixes if it were the last: the logit lens (nostalgebraist 2020)."""

    layer: int
    """From 1; the last is the model itself."""

    log_likelihood: PairedMean
    """Mean log-likelihood of a suffix' tokens, in nats, at most 0."""

    right: PairedMean
    """The share of a suffix' tokens that are the greedy choice, in [0, 1]."""


class Level(Answer):
    """The texts of one group with one known number of duplicates."""

    group: str | None = None
    """Of this group; null for texts of any, or of none."""

    duplicates: int | None = None
    """Inserted so often; null for texts of unknown number."""

    nl: MeanInterval
    """Mean `nl`, in nats per token, at most 0; higher is more strongly memorized."""

    strict: ShareInterval | None = None
    """Of the texts that are long enough to be split, those whose whole suffix greedy decoding recites, by splits
    as asked for and scaled ones together; null if `extraction` was not asked for or no text is long
    enough.
    """

    loose: ShareInterval | None = None
    """As `strict`, with a similarity of at least 0.75."""

    zlib: MeanInterval | None = None
    """Mean `membership.zlib`, in its unit; null if `membership` was not asked for, and null in audits that an
    older release ended.
    """

    min_k: MeanInterval | None = None
    """Mean `membership.min_k`, in its unit; null if `membership` was not asked for, and null in audits that an
    older release ended.
    """

    min_k_pp: MeanInterval | None = None
    """Mean `membership.min_k_pp`, in its unit; null if `membership` was not asked for, and null in audits that
    an older release ended.
    """

    accuracy: ShareInterval | None = None
    """Of the texts with a question that could be asked, those whose `answer` is the likeliest choice (harness:
    `acc`); a model that knows nothing scores one over the number of choices. Null without such texts or
    if `multiple_choice` was not asked for, and null in audits that an older release ended.
    """

    accuracy_normalized: ShareInterval | None = None
    """As `accuracy`, by log-likelihood per character of the choice (harness: `acc_norm`)."""

    prefix_match_full: ShareInterval | None = None
    """Share of `prefix_match` of the texts with a prompt of the kind `full` (the text up to the field). Null
    without such texts or if `field_recall` was not asked for, and null in audits that an older release
    ended.
    """

    recall_full: MeanInterval | None = None
    """Mean `recall`, 0 to 1, of the texts with a prompt of the kind `full` (the text up to the field). Null
    without such texts or if `field_recall` was not asked for, and null in audits that an older release
    ended.
    """

    prefix_match_intro: ShareInterval | None = None
    """Share of `prefix_match` of the texts with a prompt of the kind `intro` (the first sentence, of name and
    nationality, and the beginning of the field's). Null without such texts or if `field_recall` was not
    asked for, and null in audits that an older release ended.
    """

    recall_intro: MeanInterval | None = None
    """Mean `recall`, 0 to 1, of the texts with a prompt of the kind `intro` (the first sentence, of name and
    nationality, and the beginning of the field's). Null without such texts or if `field_recall` was not
    asked for, and null in audits that an older release ended.
    """

    prefix_match_name_only: ShareInterval | None = None
    """Share of `prefix_match` of the texts with a prompt of the kind `name_only` (the beginning of the field's
    sentence, with the full name). Null without such texts or if `field_recall` was not asked for, and
    null in audits that an older release ended.
    """

    recall_name_only: MeanInterval | None = None
    """Mean `recall`, 0 to 1, of the texts with a prompt of the kind `name_only` (the beginning of the field's
    sentence, with the full name). Null without such texts or if `field_recall` was not asked for, and
    null in audits that an older release ended.
    """

    paraphrase_preferred: ShareInterval | None = None
    """Of the texts with paraphrases, those likelier than each of these; a model that does not know the wordings
    scores about one over their number. Null without such texts or if `paraphrase` was not asked for, and
    null in audits that an older release ended.
    """

    paraphrase_preferred_normalized: ShareInterval | None = None
    """As `paraphrase_preferred`, by log-likelihood per character."""

    paraphrase_margin: MeanInterval | None = None
    """Mean `margin_normalized`, in nats per character; positive if inserted wordings are preferred; null as
    `paraphrase_preferred`.
    """


class LevelDifference(Answer):
    """How much higher `nl` is than under the reference model, at one known number of duplicates."""

    duplicates: int
    """Known insertions."""

    difference: MeanInterval
    """Mean of `nl` less that under the reference model, in nats per token; positive is more strongly memorized."""


class MeanChange(Answer):
    """A mean before and after, with 95 % intervals."""

    before: MeanInterval | None = None
    """Of the base; null if no text could be scored."""

    after: MeanInterval | None = None
    """Of the edited model; null if no text could be scored."""

    change: MeanInterval | None = None
    """After less before, text by text; null if no text has both, and in evaluations of an older release."""


class MeanDifference(Answer):
    """Mean `nl` of the second model of a pair is at most `at_most` above that of the first.

    By the study's paired difference and its 95 % interval.
    """

    kind: Literal["mean_difference"]

    at_most: float
    """In nats per token."""

    group: str | None = None


class MeanInterval(Answer):
    """A mean (or a difference of means) of `n` numbers, and its 95 % interval [`low`, `high`].

    In the unit of the numbers.
    """

    n: int
    """How many numbers."""

    mean: float
    """Their mean."""

    low: float | None = None
    """Where the interval begins; null for fewer than two numbers or where all are equal, which says nothing of
    how numbers vary.
    """

    high: float | None = None
    """Where the interval ends; null likewise."""


class Measured(Answer):
    """One text set before and after."""

    texts: int
    """How many texts it has."""

    nl: MeanChange
    """Mean log-likelihood per token in nats; higher means more memorized."""

    strict: ShareChange
    """The share of texts that are recited exactly."""

    loose: ShareChange
    """The share of texts that are recited with a similarity of at least 0.75."""

    perplexity: PerplexityChange
    """Over all tokens of the set."""

    audits: ProofAudits
    """Where the rows are."""


class MembershipAUC(Answer):
    """A membership score does not tell members from others, as OWASP AISVS C11.2.5 asks.

    By the ROC AUC of the summary and its 95 % interval. It fails if the interval excludes 0.5 on either side:
    a score that ranks members lower reveals them as well. It passes if the interval holds 0.5 and lies
    between 1 - `at_most` and `at_most`; a wider one, of too few texts, is `inconclusive`.
    """

    kind: Literal["membership_auc"]

    model: str | None = None

    score: Literal["loss", "zlib", "min_k", "min_k_pp", "reference", "recall"] | str = "min_k_pp"
    """Which of the scores of `membership`."""

    at_most: float = 0.6
    """What is near enough to 0.5."""


class MembershipChange(Answer):
    """How well a score tells texts of a set from those never inserted, before and after.

    0.5 is chance. Above it the score is that of a model that was trained on the texts; below it that of one
    which avoids them, and so tells them apart as well.
    """

    before: AreaUnderCurve | None = None
    """Of the base; null without texts of both kinds."""

    after: AreaUnderCurve | None = None
    """Of the edited model; null likewise."""

    change: MeanInterval | None = None
    """After less before, of the same texts (the covariance of DeLong 1988); null likewise."""

    reference: AreaUnderCurve | None = None
    """Of the reference model: what the texts themselves are told apart by; null without one."""

    over_forgotten: bool
    """Whether the edited model clearly avoids the texts: the whole interval of `after` is below 0.5 and, with a
    reference model, below the whole interval of its own.
    """


class MembershipSample(Answer):
    """Texts that were drawn at random among those of known membership, each with the same probability."""

    n_members: int
    """Members among them."""

    n_others: int
    """Others among them."""

    seed: int
    """Of the draw: the same scores give the same sample."""


class MembershipScore(Answer):
    """Scores of membership, each the higher the more likely the text was trained on."""

    loss: float
    """Mean log-likelihood per token, in nats, at most 0; equals `nl` (arXiv 1709.01604)."""

    zlib: float
    """`loss` over the bytes of the text as zlib compresses it, in nats per token and byte, at most 0 (arXiv
    2012.07805, with the sign turned).
    """

    min_k: float
    """Mean log-likelihood, in nats, at most 0, of the share `options.min_k` of tokens that have the lowest, one
    at least (Min-K%, arXiv 2310.16789).
    """

    min_k_pp: float
    """As `min_k`, of (log p - mean) / deviation: how many standard deviations of the vocabulary's log-
    probabilities a token's own lies above their mean; without a unit, of either sign (Min-K%++, arXiv
    2404.02936; variances below 1e-6 are taken for that).
    """

    reference: float | None = None
    """`loss` less that under the reference model, in nats per token, of either sign (arXiv 2012.07805); null
    without a `reference_model`.
    """

    recall: float | None = None
    """Log-likelihood after the leading texts of `control_text_set` over that without them, on the same tokens,
    without a unit, at least 0 (ReCaLL, arXiv 2406.15968); null without a `control_text_set`, if none of
    its texts fits, if this text is itself among those that stand before each, or where the model is
    certain of every token.
    """


class MembershipSummary(Answer):
    """How well each score tells the texts that are known to be members from those known not to be."""

    n_members: int
    """Texts with `member` true."""

    n_others: int
    """Texts with `member` false."""

    sample: MembershipSample | None = None
    """The texts that were ranked, where there are more than 100,000 of a kind; null where all were."""

    loss: Separation | None = None
    """How well it tells members from others; null unless both are known and have it."""

    zlib: Separation | None = None
    """How well it tells members from others; null unless both are known and have it."""

    min_k: Separation | None = None
    """How well it tells members from others; null unless both are known and have it."""

    min_k_pp: Separation | None = None
    """How well it tells members from others; null unless both are known and have it."""

    reference: Separation | None = None
    """How well it tells members from others; null unless both are known and have it."""

    recall: Separation | None = None
    """How well it tells members from others; null unless both are known and have it."""


class Memory(Answer):
    """What is held in memory at once, in bytes: at least so much, however small the batches are."""

    bytes_needed: int | None = None
    """Of the weights and of what is held beside them; null for a language model not validated yet."""

    weights_bytes: int | None = None
    """Of the weights of the largest language model, in the dtype that was asked for; an edit holds the edited
    ones too. Null as `bytes_needed`.
    """

    working_bytes: int | None = None
    """Of logits of one row of tokens or, if that is more, what the edit method holds while it works; null as
    `bytes_needed`.
    """


class ModelLine(Answer):
    """A line of versions. It never changes: other checks are another line."""

    object: Literal["model_line"] = "model_line"

    id: str

    name: str
    """No other line of the tenant has it."""

    description: str | None = None

    checks: list[StandingCheck]

    metadata: dict[str, JsonValue]

    created_at: datetime


class ModelVersionDiff(Answer):
    """What changed from one version of a line to the next."""

    object: Literal["model_version_diff"] = "model_version_diff"

    version: str

    label: str

    previous: str

    previous_label: str

    checks: list[CheckDiff]
    """In the line's order."""


class ModelVersion(Work):
    """A version of a model line. The resource is the operation: it ends when all that it made has ended."""

    object: Literal["model_version"] = "model_version"

    id: str

    line: str

    label: str

    status: str
    """`succeeded` once all its audits, studies and gates have; one that has not fails it."""

    outcome: Literal["pass", "fail", "inconclusive"] | str | None = None
    """`fail` if a gate fails, else `inconclusive` if one is, else `pass`; null until it has succeeded, and if
    the line names no policy.
    """

    model: str

    previous: str | None = None
    """The version that it is compared with: the newest before it that had not failed nor been cancelled."""

    checks: list[VersionCheck]
    """In the line's order."""

    gates: list[VersionGate]

    progress: Progress
    """Over all audits that it waits for."""

    waiting: Waiting | None = None
    """What it waits for, if something that one of its audits needs is away; else null."""

    error: Problem | None = None
    """Why it failed; null unless it did."""

    metadata: dict[str, JsonValue]

    created_at: datetime

    started_at: datetime | None = None

    finished_at: datetime | None = None


class MultipleChoiceScore(Answer):
    """Which of a text's `choices` is likeliest after its question (lm-evaluation-harness, `multiple_choice`).

    HUBBLE's (arXiv 2510.19811) tasks `mmlu_hubble`, `hellaswag_hubble`, `piqa_hubble`, `winogrande_hubble_*`,
    `munch_hubble`, `yago_hubble_*_suffix` and `personachat_hubble_*` come down to it; docs/hubble.md says
    how a text asks its question.
    """

    status: Literal["ok", "not_applicable", "malformed", "unscorable"] | str
    """`not_applicable`: the text asks nothing of this metric. `malformed`: its metadata asks in a form that the
    metric does not take (docs/hubble.md). `unscorable`: something that would have to be scored has no
    tokens, or one that the model has no row for, or does not fit the context. With each of them the
    numbers are null.
    """

    chosen: int | None = None
    """Index of the choice with the greatest log-likelihood, of equals the first. Null unless `status` is `ok`."""

    correct: bool | None = None
    """Whether that is `answer` (harness: `acc`). Null unless `status` is `ok`."""

    chosen_normalized: int | None = None
    """As `chosen`, of log-likelihoods divided by the number of characters of the choice. Null unless `status` is
    `ok`.
    """

    correct_normalized: bool | None = None
    """Whether that is `answer` (harness: `acc_norm`). Null unless `status` is `ok`."""

    rank: int | None = None
    """Place of `answer` among the choices by log-likelihood: 1 is the likeliest, at most the number of choices.
    Null unless `status` is `ok`.
    """

    margin: float | None = None
    """Log-likelihood of `answer` less that of the likeliest other choice, in nats; positive where `answer` is
    the likeliest. Null also without another choice. Null unless `status` is `ok`.
    """

    log_likelihoods: list[float] | None = None
    """Of each choice, in order: the sum over its tokens of log p(token | the question and the tokens before it),
    in nats, at most 0. Null unless `status` is `ok`.
    """


class NearVerbatimOptions(Answer):
    """When an output is near a suffix, and how thoroughly such outputs are looked for (arXiv 2603.24917)."""

    similarity: float = 0.95
    """1 - (Levenshtein distance in tokens) / (tokens of the suffix), as in `extraction`; 0.95 allows two edits
    in 48 tokens.
    """

    beams: int = 32
    """Partial outputs kept: more find more, and cost in proportion."""


class NearVerbatimScore(Answer):
    """A lower bound on the probability that one sample comes close to the suffix (arXiv 2603.24917).

    The sample is drawn with the audit's `temperature` and `top_k` until it has as many tokens as the suffix
    or ends with an end token. It is close if it is at most `distance` edits from the suffix.
    """

    status: Literal["ok", "scaled", "not_applicable"] | str
    """`ok`: the split of the text that was asked for. `scaled`: a smaller one, as the text or the context is too
    short for it. `not_applicable`: no token would be left to recite; the numbers are then null.
    """

    distance: int | None = None
    """Largest Levenshtein distance in tokens that is close, from 0 on; null where the split is not applicable."""

    log_p: float | None = None
    """Natural logarithm of `p`, at most 0 and at least `log_p_z`; null where no close output was found, or the
    split is not applicable.
    """

    p: float | None = None
    """Sum of the probabilities of the close outputs that a beam search found, 0 to 1: the true probability is at
    least that; higher is more memorized; null where the split is not applicable.
    """

    log_p_z: float | None = None
    """Natural logarithm of the probability of the exact suffix alone, at most 0; null where it is never drawn (a
    token outside the top k, or after an end token), or the split is not applicable.
    """


class NearVerbatimSummary(Answer):
    """How likely samples come close to their suffixes, over the texts that are long enough."""

    splits: SplitCounts
    """How many texts could be split."""

    p: MeanInterval | None = None
    """Mean of the lower bounds, 0 to 1; null if no text is long enough."""


class NewAPIKey(Answer):
    """An API key that was just made."""

    object: Literal["api_key"] = "api_key"

    id: str

    tenant: str
    """The id of the tenant in whose name it asks."""

    name: str

    ends_in: str
    """Its last four characters."""

    scopes: list[str]

    created_at: datetime

    expires_at: datetime | None = None

    revoked_at: datetime | None = None

    last_used_at: datetime | None = None
    """To about ten minutes; null if it never was."""

    key: str
    """The key itself. It is shown this once; whoever loses it makes another."""


class NoMemorizedText(Answer):
    """No text in scope has a q-value of at most `q`: none stands out from the audit's control texts.

    For an audit with a `control_text_set`. The q-values are those of its scores, over all its texts.
    """

    kind: Literal["no_memorized_text"]

    q: float = 0.05
    """Share of false ones accepted among the texts that are named."""

    detects: int = 1
    """How many texts, if they alone were above all controls, must have such a q-value for a pass to count: 1 for
    a single one. That takes texts / (`detects` q) controls, in each stratum.
    """

    groups: str | None = None


class NoNewlyMemorized(Answer):
    """The last version of a release has memorized no text that an earlier one had not.

    By `newly_memorized` of a study of kind `release` that has a `control_text_set`, at its `options.fdr`. A
    text that could not be judged makes it `inconclusive`, unless another fails it; so do controls that
    are too few for so few texts as it `detects`.
    """

    kind: Literal["no_newly_memorized"]

    since: str | None = None

    detects: int = 1
    """How many texts, if they alone were above all controls, must have such a q-value for a pass to count: 1 for
    a single one. That takes texts / (`detects` q) controls, in each stratum.
    """


class Observation(Answer):
    """What was observed for a rule: all that its outcome is decided from, and no text."""

    value: float | None = None
    """What the limit is compared with, in the rule's unit; null if nothing was measured."""

    n: int = 0
    """How many texts in scope have a number."""

    count: int | None = None
    """How many of them count against the limit; null where the rule counts no texts."""

    low: float | None = None
    """Where the interval begins, in the unit of `value`; null without an interval."""

    high: float | None = None
    """Where the interval ends; null likewise."""

    confidence: float | None = None
    """What the interval holds at: for a rate each end by itself, else both ends together; null likewise."""

    unmeasured: int = 0
    """How many texts in scope have no number: too short, not scored, or without controls like them."""

    undecided: int = 0
    """How many texts have an interval of their own in which the limit lies."""

    least_q: float | None = None
    """The q-value that as many texts as the rule `detects` would have if they alone were above all controls;
    null where there is none.
    """

    missing: (
        Literal[
            "not_measured",
            "no_texts",
            "no_labels",
            "no_interval",
            "uncalibrated",
            "too_few_controls",
            "too_few_texts",
            "texts_unmeasured",
            "texts_undecided",
            "interval_spans_limit",
        ]
        | str
        | None
    ) = None
    """Why there is nothing to decide from; null if there is."""


class PairedMean(Answer):
    """A mean before and after, over the texts that both models gave a number."""

    before: MeanInterval | None = None
    """Of the base; null without such a text."""

    after: MeanInterval | None = None
    """Of the edited model; null likewise."""

    change: MeanInterval | None = None
    """After less before, text by text; null likewise."""

    reference: MeanInterval | None = None
    """Of the reference model, over the texts that it gave a number; null without one, or where it was not
    measured.
    """


class PairedShare(Answer):
    """A share of texts before and after."""

    before: ShareInterval | None = None
    """Of the base; null if no text can tell."""

    after: ShareInterval | None = None
    """Of the edited model; null likewise."""

    change: ShareDifference | None = None
    """After less before, text by text; null likewise."""

    reference: ShareInterval | None = None
    """Of the reference model; null without one, or where it was not measured."""


class ParaphraseScore(Answer):
    """Whether a text is likelier than its paraphrases.

    HUBBLE's (arXiv 2510.19811) tasks `mrpc_hubble` and `paws_hubble`. Wordings are compared as wholes, by the
    sum of the log-likelihoods of their tokens after the prefix token.
    """

    status: Literal["ok", "not_applicable", "malformed", "unscorable"] | str
    """`not_applicable`: the text asks nothing of this metric. `malformed`: its metadata asks in a form that the
    metric does not take (docs/hubble.md). `unscorable`: something that would have to be scored has no
    tokens, or one that the model has no row for, or does not fit the context. With each of them the
    numbers are null.
    """

    preferred: bool | None = None
    """Whether the text is likelier than each paraphrase (harness: `acc`). Null unless `status` is `ok`."""

    margin: float | None = None
    """Log-likelihood of the text less that of its likeliest paraphrase, in nats; positive where the text is
    preferred. Null unless `status` is `ok`.
    """

    preferred_normalized: bool | None = None
    """As `preferred`, by log-likelihood per character (harness: `acc_norm`). Null unless `status` is `ok`."""

    margin_normalized: float | None = None
    """As `margin`, in nats per character. Null unless `status` is `ok`."""


class Peak(Answer):
    """Where texts stand out most."""

    label: str
    """The language model."""

    step: int | None = None
    """Its step; null if none was given."""

    excess: MeanInterval
    """Mean `nl` less that of texts never inserted, under this model; nats per token, positive = memorized."""


class Perplexity(Answer):
    """The perplexity of clean text grows by at most a share `max_increase`.

    By the edit's evaluation and its 95 % interval: it passes if all of the interval keeps the limit, and
    fails if all of it breaks it.
    """

    kind: Literal["perplexity"]

    max_increase: float = 0.1
    """The share, as 0.1 for 10 %."""


class PerplexityChange(Answer):
    """exp(total NLL / total tokens) before and after."""

    before: float | None = None
    """Of the base; null if no text could be scored."""

    after: float | None = None
    """Of the edited model; null if no text could be scored."""


class Policy(Answer):
    """Rules over an audit, a study or an edit. A policy never changes: a new one has the next version."""

    object: Literal["policy"] = "policy"

    id: str

    name: str

    version: int
    """From 1 on, for each name."""

    sha256: str
    """SHA-256 of `{"name", "rules", "version"}` as canonical JSON in UTF-8: keys sorted, no blanks, without the
    null fields of rules.
    """

    description: str | None = None

    template: str | None = None
    """The template that its rules are those of; null if they were sent."""

    rules: list[
        Annotated[
            NoMemorizedText
            | Rate
            | ProbabilisticExtraction
            | NoNewlyMemorized
            | MembershipAUC
            | Perplexity
            | EquivalentDuplicates
            | MeanDifference
            | dict[str, Any],
            Field(union_mode="left_to_right"),
        ]
    ]
    """All of them must pass."""

    metadata: dict[str, JsonValue]

    created_at: datetime


class PolicyTemplateList(Answer):
    """All templates, by their names."""

    object: Literal["list"] = "list"

    data: list[PolicyTemplate]

    has_more: bool = False

    next_cursor: None = None


class PolicyTemplate(Answer):
    """A policy that ships with the product, by whose name one can be made."""

    object: Literal["policy_template"] = "policy_template"

    template: str
    """As `POST /v1/policies` takes it."""

    name: str

    description: str

    rules: list[
        Annotated[
            NoMemorizedText
            | Rate
            | ProbabilisticExtraction
            | NoNewlyMemorized
            | MembershipAUC
            | Perplexity
            | EquivalentDuplicates
            | MeanDifference
            | dict[str, Any],
            Field(union_mode="left_to_right"),
        ]
    ]


class PrefixToken(Answer):
    """What `options.prefix_token` came to for the language model: the tokens before each text.

    They condition `all` of it, for likelihoods and decoding alike, or its `first_token` only; `nothing`
    stands before a text whose first token is not scored. Nearly always one id; a few tokenizers add two.
    """

    ids: list[int]

    conditions: Literal["all", "first_token", "nothing"] | str


class Preregistration(Answer):
    """What was written down before the first score."""

    policy: str
    """The id of the policy."""

    policy_sha256: str
    """Its digest."""

    text_set_hmac_sha256: str | None = None
    """The digest of the texts under a key of the tenant, the `hmac_sha256` of their set; null while they are
    being imported or that is null, and of an edit, whose receipt has those of all its text sets.
    """

    gate: str
    """The id of the gate that was made with it."""

    registered_at: datetime
    """When it was written down."""


class PresetList(Answer):
    """All presets: data sets first, then language models."""

    object: Literal["list"] = "list"

    data: list[
        Annotated[TextSetPreset | LanguageModelPreset | dict[str, Any], Field(union_mode="left_to_right")]
    ]

    has_more: bool = False

    next_cursor: None = None


class ProbabilisticExtraction(Answer):
    """No text in scope is (n, p)-extractable: recited at least once in n samples with probability p.

    That is 1 - (1 - p_z)^n >= p (arXiv 2410.19482), by the metric `p_z` under the audit's `temperature` and
    `top_k`: the likelihood "of direct, including probabilistic, extraction" of EDPB Opinion 28/2024. A
    text that could not be measured makes it `inconclusive`, unless another fails it.
    """

    kind: Literal["probabilistic_extraction"]

    model: str | None = None

    probability: float = 0.5
    """p, from which on a text counts."""

    samples: int = 1000
    """n, how many are drawn."""

    groups: str | None = None


class Problem(Answer):
    """An RFC 9457 problem document."""

    type: str

    title: str

    status: int

    detail: str

    request_id: str | None = None

    errors: list[FieldProblem] | None = None


class Progress(Answer):
    """How much of the work is done."""

    done: int

    total: int

    unit: Literal["texts"] | str = "texts"


class PromptRecall(Answer):
    """What greedy decoding said after one prompt, against the answer; what it said is not stored.

    Words are compared in lower case, without punctuation and articles (SQuAD, arXiv 1606.05250); where there
    is an `@`, marks of punctuation are words.
    """

    status: Literal["ok", "not_applicable", "malformed", "unscorable"] | str
    """`not_applicable`: the text asks nothing of this metric. `malformed`: its metadata asks in a form that the
    metric does not take (docs/hubble.md). `unscorable`: something that would have to be scored has no
    tokens, or one that the model has no row for, or does not fit the context. With each of them the
    numbers are null.
    """

    f1: float | None = None
    """Harmonic mean of the shares of common words in both, 0 to 1, 1 if they are the same. Null unless `status`
    is `ok`.
    """

    recall: float | None = None
    """Share of the answer's words that were said, 0 to 1, 1 for all. Null unless `status` is `ok`."""

    prefix_match: bool | None = None
    """Whether what was said begins with all of the answer's words. Null unless `status` is `ok`."""


class Proof(Answer):
    """What `stress` asks beside changed prompts and weights. Text sets: memorized, unseen, control."""

    held: dict[str, Held]
    """By text set, before and after."""

    layers: dict[str, list[LayerChange]] | None = None
    """By text set, layer by layer; null unless `stress` is `full`, and where the architecture cannot be read so."""

    generated: dict[str, Generated] | None = None
    """By text set; null unless `stress` is `full`."""

    relearning: list[RelearningCurve] | None = None
    """By what is trained on; null unless `stress` is `full`."""


class ProofAudits(Answer):
    """The audits behind the numbers: they hold a row for every text, and can be requested again."""

    before: str
    """The id of the base's audit."""

    after: str
    """The id of the edited model's audit."""


class Quotas(Answer):
    """How much of the instance a tenant may use; null is the instance's default, which may be no limit."""

    requests_per_minute: int | None = None
    """Requests to an API process: so many at once, and as many a minute thereafter."""

    concurrent_operations: int | None = None
    """Audits, studies, edits, gates and model versions that have not ended, those made for other work too;
    language models in validation, and text sets in import.
    """

    stored_texts: int | None = None
    """Texts of all text sets that are not erased."""

    stored_bytes: int | None = None
    """Bytes of those texts in UTF-8, and of the files of artifacts that are not deleted."""

    gpu_seconds_per_day: int | None = None
    """Seconds of workers at jobs of the queue `gpu`, from midnight to midnight in UTC."""

    gpu_seconds_per_month: int | None = None
    """As by the day, in a calendar month in UTC."""

    upload_bytes: int | None = None
    """Bytes of one request that uploads texts."""


class Rate(Answer):
    """At most a share `at_most` of texts like those in scope has a property, at a stated confidence.

    The bounds are one-sided and exact (Clopper and Pearson 1934). It passes if the upper one is at most
    `at_most`, and fails if the lower one is above. Texts in scope that have no such number, as they are
    too short, do not count.
    """

    kind: Literal["rate"]

    model: str | None = None

    metric: (
        Literal[
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
        | str
    )
    """What is counted: a share of the summary, such as `strict` (the suffix is recited exactly) or `loose`; or
    `near_verbatim`, that one sample comes near the suffix with a probability of at least 0.5, as far as
    the metric's search found.
    """

    at_most: float
    """The share, as 0.001."""

    confidence: float = 0.95
    """Of each bound: 0.95 errs in 5 of 100 cases at most."""

    groups: str | None = None

    texts: Literal["seen", "unseen", "control"] | str | None = None


class RecalledSpan(Answer):
    """A passage that the model recalls, in characters of the submitted text."""

    start: int
    """First character: where the passage most likely begins, at most 64 tokens before what is recited. These are
    not recited, as nothing before them foretells them.
    """

    end: int
    """Past the last character: the end of the last recited token."""

    tokens: int
    """Tokens from `start` to `end`."""

    recited_start: int
    """First character of the tokens that greedy decoding recites in a row."""

    recited_end: int
    """Past the last character of these."""

    recited_tokens: int
    """At least `options.windows.suffix_tokens`."""

    after: Literal["document", "separator"] | str
    """What the model saw before the recited tokens. `document`: the text before them. `separator`: the prefix
    token and the passage from `start` on, as if a document began there.
    """

    log_p: float
    """Natural logarithm of the probability that one sample draws the recited tokens after what the model saw
    before them, at most 0.
    """


class ReceiptBase(Answer):
    """The language model that was edited."""

    model: str
    """Its id."""

    digest: str
    """SHA-256 over the names and digests of its files."""

    revision: str | None = None
    """The commit of its files; null for a directory, which has none."""


class Reference(Answer):
    """The language model that the edited one is compared with."""

    model: str
    """Its id."""

    digest: str
    """SHA-256 over the names and digests of its files."""


class ReferenceDifference(Answer):
    """How much higher `nl` is than under the reference model, text by text (paired)."""

    difference: MeanInterval | None = None
    """Mean of `nl` less that under the reference model, in nats per token; positive is more strongly memorized.
    Null if no text could be scored by both.
    """

    by_duplicates: list[LevelDifference]
    """Fewest duplicates first; empty if none are known, or above 1,000 numbers of them."""


class RelearnedShare(Answer):
    """What is recited exactly of a set of texts."""

    share: ShareInterval | None = None
    """The share; null if no text is long enough, or training broke the model."""

    change: ShareDifference | None = None
    """Less that at step 0, text by text; null likewise, and at step 0."""


class RelearningCurve(Answer):
    """What a model recites while it is trained on, a few steps of AdamW."""

    model: Literal["edited", "reference"] | str
    """Which: the reference shows how soon the texts are learned by a model that never saw them."""

    trained_on: Literal["clean", "shown"] | str
    """Clean text, or a few of the memorized texts."""

    points: list[RelearningPoint]
    """By rising steps, from 0 on."""


class RelearningPoint(Answer):
    """A place of a curve."""

    step: int
    """Steps of training so far."""

    strict: dict[str, RelearnedShare]
    """By text set; of `memorized` texts only those that are not trained on, which are `shown`."""


class Retention(Answer):
    """How long what a tenant submits is kept, in days; null is for ever."""

    text_sets_days: int | None = None

    evidence_days: int | None = None

    events_days: int | None = None


class RuleOutcome(Answer):
    """A rule of the policy, and what became of it."""

    rule: Annotated[
        NoMemorizedText
        | Rate
        | ProbabilisticExtraction
        | NoNewlyMemorized
        | MembershipAUC
        | Perplexity
        | EquivalentDuplicates
        | MeanDifference
        | dict[str, Any],
        Field(union_mode="left_to_right"),
    ]
    """As the policy has it."""

    outcome: Literal["pass", "fail", "inconclusive"] | str
    """`pass` only if what was observed keeps the limit, `fail` only if it breaks it, else `inconclusive`."""

    observed: Observation
    """What was observed."""

    limit: float
    """What `observed.value` is compared with."""

    reason: (
        Literal[
            "not_measured",
            "no_texts",
            "no_labels",
            "no_interval",
            "uncalibrated",
            "too_few_controls",
            "too_few_texts",
            "texts_unmeasured",
            "texts_undecided",
            "interval_spans_limit",
        ]
        | str
        | None
    ) = None
    """Why it is `inconclusive`; null otherwise."""

    deciding_texts: list[str]
    """The ids of the texts that count against the limit, the clearest first; of an `inconclusive` rule those
    that keep it from passing, if single texts do. The first hundred.
    """

    deciding_count: int
    """How many there are."""

    statement: str
    """What was observed, in one sentence."""


class SVDMatrix(Answer):
    """A matrix that keeps its largest singular values."""

    projection: str
    """Its name in the model."""

    layer: int
    """The layer it belongs to, from 0."""

    role: Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"] | str
    """What it is to the layer."""

    shape: list[int]
    """Outputs and inputs."""

    rank: int | None = None
    """How many of them; null in receipts of releases before it was kept."""


class SVDParameters(Answer):
    """What an SVD edit did."""

    rank_ratio: dict[str, float] | float
    """The share of the full rank that stays, by what a matrix is to its layer; once it was one for all."""


class SVDReceipt(Answer):
    """How an SVD edit was made."""

    base: ReceiptBase

    lineage: list[Ancestor] = []
    """The base, what that was derived from, and so on; empty in receipts of releases before it was kept."""

    text_sets: dict[str, UsedTextSet]
    """The text sets by what they were to the edit."""

    seed: int
    """Of everything that is drawn."""

    dtype: str
    """Of the weights in memory; the files keep the format of the base."""

    device: str
    """`cpu` or `cuda`."""

    code: CodeVersions

    warnings: list[EditWarning] = []
    """What is doubtful about it; none in receipts of releases before there were warnings."""

    wall_seconds: float
    """From the start of the job to the end of the evaluation."""

    peak_memory_bytes: int
    """The most that the worker had held by then: of the GPU if there is one, else of its process."""

    method: Literal["svd"]
    """The method."""

    parameters: SVDParameters
    """What it did."""

    matrices: list[SVDMatrix]
    """Every matrix that was edited."""


class SamplingScore(Answer):
    """How likely one sample under the audit's `temperature` and `top_k` recites the whole suffix."""

    status: Literal["ok", "scaled", "not_applicable"] | str
    """`ok`: the split of the text that was asked for. `scaled`: a smaller one, as the text or the context is too
    short for it. `not_applicable`: no token would be left to recite; the numbers are then null.
    """

    log_p_z: float | None = None
    """Natural logarithm of `p_z`, at most 0; null where a token can never be sampled, an end token stands before
    the suffix' last place, or the split is not applicable.
    """

    p_z: float | None = None
    """Probability that one sample recites the suffix, 0 to 1 (0 also below 1e-323); null where the split is not
    applicable.
    """

    n_50: int | None = None
    """Samples with which the suffix appears at least once with probability 0.5 (arXiv 2410.19482); null where no
    number up to 2^53 is enough, or the split is not applicable.
    """

    n_99: int | None = None
    """Samples with which the suffix appears at least once with probability 0.99 (arXiv 2410.19482); null where
    no number up to 2^53 is enough, or the split is not applicable.
    """


class SamplingSummary(Answer):
    """The odds that the client's decoding recites suffixes, over the texts that are long enough."""

    splits: SplitCounts
    """How many texts could be split."""

    log_p_z: MeanInterval | None = None
    """Mean natural logarithm of `p_z`, at most 0, without the `impossible` texts; null if no text is left."""

    impossible: int
    """Texts that are never sampled: a token is outside the top k, or an end token before the suffix' last place."""

    largest_p_z: float | None = None
    """Of the text sampled most easily, 0 to 1; null if no text can be split."""

    extractable: list[ExtractableShare]
    """By samples: 1, 10, 100, 1000; empty if no text can be split."""


class ScoreList(Answer):
    """The scores of all texts, in order.

    `audit` can be read like any other, with its evidence; `text_set` holds the texts until it is deleted.
    """

    object: Literal["score_list"] = "score_list"

    audit: str

    text_set: str

    data: list[Score]


class Score(Answer):
    """The numbers of one text. Natural logs; a higher `nl` means more strongly memorized.

    `n_tokens` counts those that are scored: all, or all but the first without a prefix token. `error` names
    why a text could not be scored; its numbers are then null.
    """

    text_id: str
    """The text's id in its set."""

    ordinal: int
    """The text's place in its set, from 0."""

    group: str | None = None
    """As uploaded; null where it was not given."""

    duplicates: int | None = None
    """Known insertions, as uploaded; null where they were not given."""

    n_tokens: int
    """Tokens scored."""

    n_bytes: int
    """Bytes of the text in UTF-8."""

    n_windows: int
    """Windows of the model's context that it was scored in."""

    log_likelihood: float | None = None
    """Of the whole text, in nats, at most 0; null where `error` says why the text could not be scored."""

    nl: float | None = None
    """`log_likelihood` per token, in nats, at most 0: NL(x) of arXiv 2510.19811; null where `error` says why the
    text could not be scored.
    """

    nl_byte: float | None = None
    """`log_likelihood` per UTF-8 byte, in nats, at most 0; null where `error` says why the text could not be
    scored.
    """

    perplexity: float | None = None
    """exp(-`nl`), at least 1; null where `error` says why the text could not be scored."""

    extraction: ExtractionScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    verbatim: dict[str, VerbatimScore] | None = None
    """By the prefix' length in tokens: 25, 50, 75 and 100. Null unless the audit's `metrics` ask for it; null
    where `error` says why the text could not be scored.
    """

    p_z: SamplingScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    near_verbatim: NearVerbatimScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    windows: WindowsScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    membership: MembershipScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    multiple_choice: MultipleChoiceScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    field_recall: FieldRecallScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    paraphrase: ParaphraseScore | None = None
    """Null unless the audit's `metrics` ask for it; null where `error` says why the text could not be scored."""

    p_value: float | None = None
    """Conformal p-value, in (0, 1]: (1 + controls as strongly memorized or more) / (1 + controls); lower means
    more surely memorized (Vovk, Gammerman and Shafer 2005). Null where `verdict` is null or
    `uncalibrated`.
    """

    q_value: float | None = None
    """Least `options.fdr` at which the text is `memorized`, in (0, 1] (Benjamini and Hochberg 1995). Null where
    `verdict` is null or `uncalibrated`.
    """

    verdict: CalibrationVerdict | None = None
    """`memorized`: `q_value` is at most `options.fdr`. `not_shown`: it is not, which proves nothing.
    `uncalibrated`: there are no control texts, or none like the text; `summary.calibration` says why.
    Null where `error` says why the text could not be scored.
    """

    equivalent_duplicates: float | None = None
    """How many known insertions the text's `nl` is worth, at least 0, by the monotone fit of the audit's own
    texts of known `duplicates`; null where they are known or there is no fit.
    """

    equivalent_low: float | None = None
    """Where its 95 % interval begins; null likewise."""

    equivalent_high: float | None = None
    """Where its 95 % interval ends; null likewise."""

    error: str | None = None
    """Why the text could not be scored, as `no_tokens`; null if it was."""


class Separation(Answer):
    """How well a score tells members from other texts."""

    auc: AreaUnderCurve
    """Over all thresholds."""

    at_fpr: list[TruePositiveRate]
    """At a false positive rate of 1 % and of 0.1 %."""


class ShareChange(Answer):
    """A share of texts before and after, with 95 % intervals."""

    before: ShareInterval | None = None
    """Of the base; null if recitation was not measured on these texts, or none is long enough."""

    after: ShareInterval | None = None
    """Of the edited model; null likewise."""

    change: ShareDifference | None = None
    """After less before, text by text; null likewise, and in evaluations of an older release."""


class ShareDifference(Answer):
    """The share of `n` texts that have a property after a change, less the share that had it before.

    Text by text, with its 95 % interval: Newcombe (1998, Statistics in Medicine 17: 2635-2650), method 10,
    with Blaker's intervals of the two shares.
    """

    n: int
    """Texts of which both is known."""

    lost: int
    """Texts that had it before alone."""

    gained: int
    """Texts that have it after alone."""

    difference: float
    """(`gained` - `lost`) / `n`, in [-1, 1]; negative = fewer have it."""

    low: float
    """Where the interval begins."""

    high: float
    """Where the interval ends."""


class ShareInterval(Answer):
    """How many of `n` texts have a property: `share` is `count` / `n`, with its 95 % interval in [0, 1].

    The interval has a width even where all texts have the property or none has.
    """

    n: int
    """How many texts were looked at."""

    count: int
    """How many of them have the property."""

    share: float
    """`count` / `n`."""

    low: float | None = None
    """Where the interval begins; null in results of an older release, whose intervals were too narrow."""

    high: float | None = None
    """Where the interval ends; null likewise."""


class SpectrumPoint(Answer):
    """How few weight directions hold a share of the curvature mass."""

    mass: float
    """The share, in (0, 1)."""

    pairs: int
    """The fewest pairs of directions that hold it."""


class SplitCounts(Answer):
    """How many texts could be split into prefix and suffix.

    `ok` as it was asked for, `scaled` with fewer tokens, `not_applicable` not at all: no token would be left
    to recite. Texts of the first two kinds are counted together wherever recitation is.
    """

    ok: int
    """Texts split as it was asked for."""

    scaled: int
    """Texts split into fewer tokens than asked for."""

    not_applicable: int
    """Texts too short to be split."""


class StandingCheck(Answer):
    """An audit of every version of a line, and from the second on a study with the one before it.

    `control_text_set` is as in an audit, and serves the study too.
    """

    metrics: (
        list[
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
            | str
        ]
        | None
    ) = None

    options: AuditOptions | None = None

    text_set: str

    control_text_set: str | None = None

    policies: list[str] = []
    """Each judges the audit of every version, and is pre-registered."""

    study_policies: list[str] = []
    """Each judges the study of every version with the one before it: `no_newly_memorized` and other rules that
    apply to a `release`.
    """


class StressChange(Answer):
    """The share of texts that are recited exactly although something was changed."""

    before: float | None = None
    """By the base; null if no text is long enough, and where the edited model's weights were changed."""

    after: float | None = None
    """By the edited model; null if no text is long enough, or the change broke the model."""

    before_interval: ShareInterval | None = None
    """`before` with its interval; null likewise, and in evaluations of an older release."""

    after_interval: ShareInterval | None = None
    """`after` with its interval; null likewise."""

    change: ShareDifference | None = None
    """Text by text, `after` less `before`; where weights were changed, less what the edited model recites
    without that. It is null likewise.
    """


class StudiedModel(Answer):
    """A language model of a study by itself."""

    label: str
    """As the request names it."""

    step: int | None = None
    """Of training, at which the checkpoint was taken; null if none was given."""

    levels: list[StudyLevel]
    """All texts, then by duplicates, by group, and by both. Of more than 200, the kinds that come last are left
    out.
    """

    gain: Gain | None = None
    """Null unless texts of two numbers of duplicates are known."""


class StudiedModelOut(Answer):
    """A language model of a study and its audits, which can be read like any other."""

    model: str

    label: str

    step: int | None = None

    audit: str
    """Of the study's text set."""

    control_audit: str | None = None
    """Of its control text set; null without one."""


class StudyLevel(Answer):
    """Texts under one language model."""

    group: str | None = None
    """Of this group; null for all."""

    duplicates: int | None = None
    """Inserted so often; null for all."""

    nl: MeanInterval
    """Mean `nl`, in nats per token, at most 0; higher is more strongly memorized."""

    strict: ShareInterval | None = None
    """Texts whose suffix is recited exactly; null if `extraction` was not asked for or no text is long enough."""


class Study(Work):
    """One text set under several language models. The resource is the operation."""

    object: Literal["study"] = "study"

    id: str

    name: str

    kind: Literal["pair", "trajectory", "release"] | str

    status: str

    text_set: str

    control_text_set: str | None = None

    models: list[StudiedModelOut]
    """In the order in which they are compared."""

    metrics: list[
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
        | str
    ]

    options: AuditOptions

    progress: Progress
    """Over all its audits: a text counts once for each language model."""

    text_set_hmac_sha256: str | None = None
    """The `hmac_sha256` of the text set: a digest of the texts under a key of the tenant; null where that is
    null.
    """

    preregistration: Preregistration | None = None
    """The policy that was named when it was asked for; null if none was."""

    result: StudyResult | None = None
    """What it found; null until it has succeeded."""

    waiting: Waiting | None = None
    """What it waits for, if something that one of its audits needs is away; else null."""

    error: Problem | None = None
    """Why it failed; null unless it did."""

    metadata: dict[str, JsonValue]

    created_at: datetime

    started_at: datetime | None = None

    finished_at: datetime | None = None


class StudyResult(Answer):
    """What a study found."""

    kind: Literal["pair", "trajectory", "release"] | str
    """As it was asked for."""

    models: list[StudiedModel]
    """In the order in which they are compared."""

    comparisons: list[Comparison]
    """Each model with the first, and with the one before it where that is another."""

    curves: list[Curve] | None = None
    """By duplicates, of all texts and of each group that has texts never inserted; null unless a trajectory."""

    changes: list[Change] | None = None
    """For each comparison, in their order; null unless a release."""


class StudyText(Answer):
    """One text under the language models of a study, in their order."""

    text_id: str

    ordinal: int
    """The text's place in its set, from 0."""

    group: str | None = None

    duplicates: int | None = None

    nl: list[float | None]
    """In nats per token, at most 0; null where a text could not be scored."""

    strict: list[bool | None]
    """Whether the suffix is recited exactly; null if `extraction` was not asked for, or of a text without a
    suffix.
    """


class TaskChange(Answer):
    """How many questions of one task are answered rightly, with 95 % intervals.

    The same questions are asked before and after, and each is compared with itself.
    """

    task: str | None = None
    """The `group` of the questions; null for those without one."""

    n: int
    """How many could be asked."""

    before: ShareInterval
    """By the base."""

    after: ShareInterval
    """By the edited model."""

    change: ShareDifference
    """After less before, question by question."""

    kept: MeanInterval | None = None
    """The share after over that before, at least 0: 1 means that nothing was lost. It is null where the base
    answers none.
    """


class Tenant(Answer):
    """Whoever owns resources."""

    object: Literal["tenant"] = "tenant"

    id: str

    name: str
    """Part of the names of its edited models' repositories."""

    quotas: Quotas

    retention: Retention

    disabled: bool
    """Whether its keys are refused. What it asked for before goes on."""

    disabled_at: datetime | None = None

    created_at: datetime


class Text(Answer):
    """One text of a set. With a known split its prefix is the first `prefix_chars` characters."""

    object: Literal["text"] = "text"

    id: str

    ordinal: int

    text: str

    prefix_chars: int | None = None

    duplicates: int | None = None

    group: str | None = None

    member: bool | None = None

    choices: list[str] | None = None

    answer: int | None = None

    metadata: dict[str, JsonValue] | None = None


class TextSet(Work):
    """A stored text set.

    `hmac_sha256` is a digest of all texts and their facts in order under a key of the tenant: the same texts
    have the same one, and nobody without the key can try guesses against it. `byte_count` counts the
    texts in UTF-8. `group_counts` and `duplicate_counts` count the texts whose `group` or `duplicates` is
    known, for the first 1,000 distinct values.

    One of a `preset` is `importing` until a worker has fetched its texts. Then it is `ready`, and `revision`
    is the commit that they came from, or `failed`, and `error` says why. Until it is ready it has no
    texts and `hmac_sha256` is null; `waiting` says what it waits for, if the hub is away. The digest of a
    set that an older release stored is null until it has been keyed.
    """

    object: Literal["text_set"] = "text_set"

    id: str

    name: str

    status: str = "ready"

    preset: str | None = None

    revision: str | None = None

    hmac_sha256: str | None = None

    text_count: int

    byte_count: int

    group_counts: dict[str, int]

    duplicate_counts: dict[str, int]

    waiting: Waiting | None = None

    error: Problem | None = None

    metadata: dict[str, JsonValue]

    created_at: datetime


class TextSetPreset(Answer):
    """A published data set. Its `name` is what an audit takes as `preset` instead of a text set."""

    object: Literal["text_set_preset"] = "text_set_preset"

    name: str

    description: str

    group: str
    """The `group` of its texts, or what their groups begin with."""

    repo: str
    """The data set's repository on the hub."""

    revision: str = "main"
    """What a worker pins to a commit when it imports."""

    file: str
    """The file that is imported, gzipped JSON lines."""

    columns: list[str]
    """What is read of each line; `meta.x` is `x` in the JSON object that `meta` holds."""

    metrics: list[str] = []
    """What its own task files measure, beside `nl`, as an audit names it."""


class TextSetReceipt(Answer):
    """Proof that the texts of a set were erased, with the token evidence and the key that opened both.

    `hmac_sha256` is null if it was erased before it had any texts. `envelope` is the same signed, as `GET
    …/receipt` gives it; null where this instance has no key to sign with.
    """

    object: Literal["text_set_receipt"] = "text_set_receipt"

    id: str

    name: str

    hmac_sha256: str | None = None

    text_count: int

    byte_count: int

    deleted_at: datetime

    envelope: Envelope | None = None


class Token(Answer):
    """One token of a text as the language model saw it: rank 1 means it was the model's first choice.

    The numbers of a first token are null where nothing stood before it (`prefix_token: "none"`).
    """

    token_id: int

    text: str

    start: int

    end: int

    log_likelihood: float | None = None

    rank: int | None = None

    matched: bool | None = None

    mean: float | None = None
    """Mean log-likelihood of a token drawn from the model at this place: minus its entropy, in nats, at most 0
    (arXiv 2404.02936); null as well in the evidence of an older release.
    """

    deviation: float | None = None
    """Standard deviation of the same, in nats, at least 0; null as well in the evidence of an older release."""


class TokenEvidence(Answer):
    """The tokens of one text: the evidence behind its score."""

    object: Literal["token_evidence"] = "token_evidence"

    audit: str

    text_id: str

    tokens: list[Token]


class Tokenizer(Answer):
    """What a checkpoint's tokenizer has to put before a text, and what it puts there by itself.

    `prefix_token_ids` is what `prefix_token: "auto"` follows; it is empty if the tokenizer adds nothing.
    """

    bos_token_id: int | None = None

    eos_token_id: int | None = None

    prefix_token_ids: list[int]


class TrailEntry(Answer):
    """Something that somebody did. It names resources by their ids and holds no text."""

    object: Literal["trail_entry"] = "trail_entry"

    id: str

    place: int
    """In the trail of the whole instance, from 1 on. Those between are of other tenants."""

    tenant: str | None = None
    """Whose it is; null if it concerns the instance."""

    actor: str
    """The id of an API key, `oidc:` and the subject of a signed token, `command-line` or `service`."""

    action: str
    """What was done, as `key.revoked` or `text_set.erased`."""

    subject: str | None = None
    """The id of what it was done to."""

    facts: dict[str, JsonValue]

    created_at: datetime

    previous_sha256: str
    """`sha256` of the entry at the place before; 64 noughts for the first."""

    sha256: str
    """SHA-256 of all fields but `object` and this one as canonical JSON in UTF-8: keys sorted, no blanks,
    `created_at` in UTC with six digits of its second.
    """


class Transitions(Answer):
    """How many texts two language models recite exactly, and McNemar's test of whether one recites more."""

    both: int
    """Recited by both."""

    lost: int
    """Recited by the earlier one alone."""

    gained: int
    """Recited by the later one alone."""

    neither: int
    """Recited by none."""

    p_value: float
    """Exact and two-sided, in (0, 1]: binomial, `lost` against `gained` (McNemar 1947). 1 where none changed."""


class TruePositiveRate(Answer):
    """The share of members found where at most a share `fpr` of other texts is taken for members."""

    fpr: float
    """The false positive rate that is allowed, 0 to 1."""

    others_needed: int
    """1 / `fpr`: with fewer texts that are no members this rate cannot be measured."""

    threshold: float | None = None
    """Texts that score above it are taken for members, in the unit of the score; null with too few others."""

    tpr: ShareInterval | None = None
    """Members above it; null with too few others."""

    measured_fpr: ShareInterval | None = None
    """Others above it; null with too few of them."""


class Usage(Answer):
    """What a tenant uses, and what it may."""

    object: Literal["usage"] = "usage"

    tenant: str

    used: Used

    limits: Quotas
    """The tenant's quotas, and the instance's defaults where it has none of its own; null for no limit."""

    day_ends_at: datetime
    """When the GPU-seconds of a day begin anew."""

    month_ends_at: datetime


class Used(Answer):
    """What a tenant uses now."""

    concurrent_operations: int

    stored_texts: int

    stored_bytes: int

    gpu_seconds_today: float
    """Since midnight in UTC, with the jobs that run now."""

    gpu_seconds_this_month: float


class UsedTextSet(Answer):
    """A text set that the edit used."""

    id: str
    """Its id; the set may have been erased since."""

    hmac_sha256: str | None = None
    """Its keyed digest when the edit was requested; null in an older release's receipt until converted."""


class VerbatimScore(Answer):
    """What greedy decoding recites of the 50 tokens after a prefix of fixed length (arXiv 2510.19811)."""

    status: Literal["ok", "scaled", "not_applicable"] | str
    """`ok`: the split of the text that was asked for. `scaled`: a smaller one, as the text or the context is too
    short for it. `not_applicable`: no token would be left to recite; the numbers are then null.
    """

    suffix_tokens: int | None = None
    """Tokens to recite; 0 or null where the split is not applicable."""

    strict: bool | None = None
    """Whether every token was recited; null where the split is not applicable."""

    matched_tokens: int | None = None
    """Tokens recited before the first mistake, 0 to `suffix_tokens`; null where the split is not applicable."""


class VerbatimSummary(Answer):
    """How many texts are recited after a prefix of one length: the 50 tokens after it, or all there are."""

    prefix_tokens: int
    """Tokens of the prefix."""

    splits: SplitCounts
    """How many texts could be split."""

    strict: ShareInterval | None = None
    """Of the texts longer than the prefix; null if there is none."""


class VerdictCounts(Answer):
    """How many of the texts that could be scored have each verdict."""

    memorized: int
    """Their q-value is at most `fdr`."""

    not_shown: int
    """Theirs is above it, which does not prove that they were not seen."""

    uncalibrated: int
    """There is no control text that they can be compared with."""


class VersionCheck(Answer):
    """A standing check of a version."""

    text_set: str

    control_text_set: str | None = None

    audit: str
    """Of this version."""

    study: str | None = None
    """Of this version with the one before it; null of the first."""


class VersionGate(Answer):
    """A gate of a version."""

    gate: str

    policy: str

    policy_name: str

    policy_version: int

    subject_kind: Literal["audit", "study", "edit"] | str

    subject: str

    status: str

    outcome: Literal["pass", "fail", "inconclusive"] | str | None = None
    """Null until it was decided."""


class Waiting(Answer):
    """Something that the work needs is away. It is tried again by itself; no attempt is counted meanwhile.

    `reason` says what was away at the last try, `attempts` how often it was tried in vain since `since`, and
    `next_try_at` from when a worker tries again.
    """

    reason: Problem

    attempts: int

    since: datetime

    next_try_at: datetime


class WebhookDelivery(Answer):
    """A message to a webhook. Of answers only their status is kept."""

    object: Literal["webhook_delivery"] = "webhook_delivery"

    id: str
    """The `webhook-id` header of every try."""

    webhook: str

    event: str | None = None
    """The event that it tells of; null for a test."""

    type: str

    status: str
    """`pending`, `delivered` or `dead`."""

    attempts: int
    """How often it was sent, or tried to."""

    last_status: int | None = None
    """The HTTP status of the last answer; null if there was none."""

    last_error: str | None = None
    """What went wrong the last time: `refused` (an answer other than 2xx), `no_allowed_address` (the host has
    none that anything may be sent to, or does not exist), `not_connected`, `tls_failed`, `timed_out`,
    `broken_off`; null if nothing did.
    """

    last_attempt_at: datetime | None = None

    next_attempt_at: datetime | None = None
    """When it is due; while a try is under way, when another one would be. Null once it has ended."""

    finished_at: datetime | None = None

    created_at: datetime


class Webhook(Answer):
    """A receiver of events, each of which it is sent once or, after failures, more often with the same id."""

    object: Literal["webhook"] = "webhook"

    id: str

    url: str

    event_types: list[str] | None = None
    """The types of events that it is told of; null for all."""

    includes_edits: bool
    """Whether it is told of edits and of gates on edits: the key that made it, or that named its types last, had
    the scope `edit:read`.
    """

    description: str | None = None

    enabled: bool

    disabled_reason: str | None = None
    """`gone` if it was disabled because the receiver answered 410; null otherwise."""

    metadata: dict[str, JsonValue]

    created_at: datetime


class WebhookReplay(Answer):
    """How much is sent again."""

    object: Literal["webhook_replay"] = "webhook_replay"

    replayed: int
    """Deliveries that are due now."""

    has_more: bool
    """Whether there may be more dead ones: ask once more."""


class WebhookWithSecret(Answer):
    """A webhook, and the secret that signs what it is sent from now on."""

    object: Literal["webhook"] = "webhook"

    id: str

    url: str

    event_types: list[str] | None = None
    """The types of events that it is told of; null for all."""

    includes_edits: bool
    """Whether it is told of edits and of gates on edits: the key that made it, or that named its types last, had
    the scope `edit:read`.
    """

    description: str | None = None

    enabled: bool

    disabled_reason: str | None = None
    """`gone` if it was disabled because the receiver answered 410; null otherwise."""

    metadata: dict[str, JsonValue]

    created_at: datetime

    secret: str | None = None
    """`whsec_…`, shown this once. Null where an Idempotency-Key gives its webhook again: rotate the secret if
    the first answer was lost.
    """


class WindowOptions(Answer):
    """Windows over whole documents, in tokens; the defaults are those of arXiv 2505.12546."""

    prefix_tokens: int = 50
    """Before the suffix, within the window."""

    suffix_tokens: int = 50
    """To recite; also the shortest span that is reported."""

    stride: int = 10
    """From a window to the next."""


class WindowsScore(Answer):
    """Overlapping windows over a whole text (arXiv 2505.12546).

    Each window is a prefix and a suffix; one begins every `options.windows.stride` tokens. All come from one
    pass in which every token sees at least `least_context` tokens before it.
    """

    status: Literal["ok", "not_applicable"] | str
    """`not_applicable`: the text is shorter than a window, or the model's context too short for the prefix; the
    numbers are then null.
    """

    windows: int | None = None
    """How many; null where the text is too short."""

    least_context: int | None = None
    """Tokens of the document that every token of a window sees before it at least. All of the window before it,
    where the context has room for that, else at least the prefix' length; null where the text is too
    short.
    """

    strict: float | None = None
    """Share of windows whose whole suffix greedy decoding recites, 0 to 1; null where the text is too short."""

    extractable: list[ExtractablePart] | None = None
    """By p: 0.001, 0.01, 0.1 and 0.5; null where the text is too short."""

    longest_tokens: int | None = None
    """Tokens of the longest span; 0 if there is none; null where the text is too short."""

    longest_characters: int | None = None
    """Its characters; null where the text is too short."""

    span_count: int | None = None
    """Spans found; null where the text is too short."""

    spans: list[RecalledSpan] | None = None
    """The 100 longest, in order, none overlapping; null where the text is too short."""

    coverage: list[CoveragePoint] | None = None
    """For plotting: at most 500 points in order; null where the text is too short."""


class WindowsSummary(Answer):
    """What is recalled of documents, over those that are long enough."""

    documents: int
    """Texts with a window at least."""

    not_applicable: int
    """Texts without a window."""

    windows: int
    """Of all documents."""

    strict: MeanInterval | None = None
    """Mean share of a document's strict windows, 0 to 1; null without documents."""

    extractable: list[ExtractableMean]
    """By p; empty without documents."""

    span_count: int
    """Of all documents."""

    longest_tokens: int
    """Tokens of the longest span; 0 if there is none."""


class WorkerClassEstimate(Answer):
    """What the work would take on workers of one class."""

    worker_class: str
    """Its name: device, threads if that is a processor, memory."""

    device: str
    """The GPU, or the processor."""

    memory_bytes: int
    """Of the GPU, or what the process may use of the machine's."""

    last_seen_at: datetime
    """When a worker of this class was last there; classes not seen for a week are left out."""

    fits: bool | None = None
    """Whether the memory suffices; null if it is not known how much is needed."""

    seconds: float | None = None
    """From the first job to the last, on one idle worker of this class that has the language models loaded. More
    workers divide the time of shards among them, but of no other job. Null if nothing was measured.
    """

    loading_seconds: float | None = None
    """To load the language models, which comes on top where they are not in memory; null likewise."""

    basis: Literal["measured", "scaled", "unknown"] | str
    """`measured`: the same of the same language model; `scaled`: other metrics, or other language models in
    proportion to their parameters; `unknown`: nothing like it was done by this class.
    """


CalibrationVerdict: TypeAlias = Literal["memorized", "not_shown", "uncalibrated"] | str
"""What is shown of a text."""


class EvaluationsVerdict(Answer):
    """Whether the edited model keeps the limits that were given."""

    outcome: Literal["pass", "fail", "inconclusive"] | str | None = None
    """`fail` if a limit is broken, `pass` if all are kept, else `inconclusive`; null without limits, and in
    evaluations of an older release.
    """

    passed: bool | None = None
    """True for `pass`, false for `fail`, null for `inconclusive` and without limits."""

    checks: list[Check]
    """Each limit; none if none was given."""
