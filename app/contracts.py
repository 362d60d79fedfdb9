"""What clients may ask for, as strict pydantic models shared with the workers."""

import re
from math import prod
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_NESTING = 20
# Begins the tags of unions, so that they can be told from the fields of a location.
TAG_MARK = "tag:"
# The escape itself, not the text of it after an escaped backslash.
NUL_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

Metric = Literal["nl", "extraction", "verbatim", "p_z"]


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise PydanticCustomError("nul_character", "A text may not contain the NUL character")
    return value


def _nesting(value: JsonValue) -> int:
    if not isinstance(value, dict | list):
        return 0
    children = value.values() if isinstance(value, dict) else value
    return 1 + max(map(_nesting, children), default=0)


def _storable_metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if _nesting(value) > MAX_METADATA_NESTING:
        raise PydanticCustomError("metadata_too_deep", "Metadata may be nested up to 20 levels")
    encoded = orjson.dumps(value)
    if len(encoded) > MAX_METADATA_BYTES:
        raise PydanticCustomError("metadata_too_large", "Metadata may not exceed 16 KiB")
    if NUL_IN_JSON.search(encoded):
        raise PydanticCustomError("nul_character", "Metadata may not contain the NUL character")
    return value


CleanStr = Annotated[str, AfterValidator(_without_nul)]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_nul)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_storable_metadata)]
TextId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@+=~-]{1,200}$")]


class Contract(BaseModel):
    """Strict: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Described(BaseModel):
    """A result whose fields are described by the strings below them."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class HubSource(Contract):
    """A repository on a Hugging Face hub. The worker pins `revision` to a commit."""

    type: Literal["hub"]
    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?$")]
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w./-]{0,199}$")] = "main"


class PathSource(Contract):
    """A directory on the workers' disk, under one of the allow-listed roots."""

    type: Literal["path"]
    path: Annotated[str, Field(max_length=4096, pattern="^/"), AfterValidator(_without_nul)]


class ArtifactSource(Contract):
    """An edited language model's files. Only the service writes it: clients name the language model."""

    type: Literal["artifact"] = "artifact"
    artifact: Annotated[str, Field(pattern=r"^art_[0-9a-f]{32}$")]


def _source_tag(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return TAG_MARK + ("path" if kind == "path" else "hub")


def _reference_tag(value: Any) -> str:
    return TAG_MARK + "id" if isinstance(value, str) else _source_tag(value)


_TaggedHub = Annotated[HubSource, Tag("tag:hub")]
_TaggedPath = Annotated[PathSource, Tag("tag:path")]
Source = Annotated[_TaggedHub | _TaggedPath, Discriminator(_source_tag)]
# A language model by its id, or by a source that is registered on the way.
LanguageModelReference = Annotated[
    Annotated[str, Field(max_length=100), Tag("tag:id")] | _TaggedHub | _TaggedPath,
    Discriminator(_reference_tag),
]


class TextRecord(Contract):
    """One text and what is known about it.

    Either `text`, or `prefix` and `suffix`, whose concatenation is the text.
    """

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["text"]}, {"required": ["prefix", "suffix"]}]}
    )

    id: TextId | None = None
    text: CleanStr | None = None
    prefix: CleanStr | None = None
    suffix: CleanStr | None = None
    duplicates: Annotated[int, Field(ge=0, le=2**53)] | None = None
    group: Name | None = None
    member: bool | None = None
    choices: Annotated[list[CleanStr], Field(min_length=1, max_length=100)] | None = None
    answer: Annotated[int, Field(ge=0)] | None = None
    metadata: Metadata | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.prefix is None) != (self.suffix is None):
            raise PydanticCustomError("incomplete_split", "Give both prefix and suffix, or neither")
        if self.text is None and self.prefix is None:
            raise PydanticCustomError("missing_text", "Give text, or prefix and suffix")
        if self.text is not None and self.prefix is not None and self.text != self.full_text:
            raise PydanticCustomError("split_mismatch", "The text must be prefix + suffix")
        if self.answer is not None and self.answer >= len(self.choices or ()):
            raise PydanticCustomError("answer_out_of_range", "The answer must be an index into choices")
        return self

    @property
    def full_text(self) -> str:
        """The text itself."""
        if self.prefix is not None and self.suffix is not None:
            return self.prefix + self.suffix
        assert self.text is not None
        return self.text


def _prefix_token_tag(value: Any) -> str:
    return TAG_MARK + ("name" if isinstance(value, str) else "id")


PrefixTokenName = Literal["auto", "bos", "eos", "bos_else_eos", "none"]
# A token by its role in the checkpoint's tokenizer, or by its id.
PrefixTokenChoice = Annotated[
    Annotated[PrefixTokenName, Tag("tag:name")] | Annotated[int, Field(ge=0, le=2**31 - 1), Tag("tag:id")],
    Discriminator(_prefix_token_tag),
]


class AuditOptions(Contract):
    """How texts are scored; the defaults are those of arXiv 2510.24256 (64 and 48) and 2410.19482 (40).

    `prefix_token` is what stands before each text. `auto`: what the checkpoint's own tokenizer puts there; if
    that is nothing, BOS, else EOS, gives the first token its probability and nothing else sees it. `bos`,
    `eos` or an id: that token, before all of the text. `bos_else_eos`: as lm-evaluation-harness has it.
    `none`: nothing, and the first token is not scored.

    `special_tokens` is what the string of a special token inside a text becomes, such as `<|endoftext|>`:
    `control` that token, as transformers encodes unless told otherwise; `text` its characters.
    """

    prefix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 64
    suffix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 48
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    top_k: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    token_evidence: bool = True
    dtype: Literal["float32", "bfloat16"] = "float32"
    prefix_token: PrefixTokenChoice = "auto"  # noqa: S105 - a token of the vocabulary
    special_tokens: Literal["control", "text"] = "control"


class AuditSpec(Contract):
    """What an audit measures."""

    metrics: Annotated[list[Metric], Field(min_length=1, max_length=16)] = ["nl"]
    options: AuditOptions = AuditOptions()


def _as_scored_then(value: Any) -> Any:
    """Options of a release without `prefix_token`: it put BOS, else EOS, before every text."""
    if isinstance(value, dict) and "prefix_token" not in value:
        return {**value, "prefix_token": "bos_else_eos"}
    return value


StoredAuditOptions = Annotated[AuditOptions, BeforeValidator(_as_scored_then)]


class StoredAuditSpec(AuditSpec):
    """What an audit measures, read back from the store, whichever release wrote it."""

    options: StoredAuditOptions


EditMethod = Literal["kfac", "balanced_subnet", "svd"]
Role = Literal["gate", "up", "down", "q", "k", "v", "qkv", "o"]
Labels = Literal["sampled", "gold"]
Layers = Annotated[list[Annotated[int, Field(ge=0, le=10_000)]], Field(min_length=1, max_length=1000)]
Roles = Annotated[list[Role], Field(min_length=1, max_length=8)]


def _layers_tag(value: Any) -> str:
    return TAG_MARK + ("name" if isinstance(value, str) else "list")


LayerChoice = Annotated[
    Annotated[Layers, Tag("tag:list")] | Annotated[Literal["auto"], Tag("tag:name")],
    Discriminator(_layers_tag),
]
KeepMass = Annotated[float, Field(gt=0, le=1)]
RankRatio = Annotated[float, Field(gt=0, le=1)]
TextSetId = Annotated[str, Field(max_length=100)]


class BalancedSubnetOptions(Contract):
    """How BalancedSubnet learns its mask; the defaults are those of arXiv 2510.24256."""

    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.0015
    epochs: Annotated[int, Field(ge=1, le=1000)] = 5
    learning_rate: Annotated[float, Field(gt=0, le=100)] = 0.3
    loss_weight: Annotated[float, Field(ge=0, le=1)] = 0.7


class RankRatios(Contract):
    """What SVD keeps of a projection's singular values, as a share of its full rank.

    The defaults are those of arXiv 2510.24256, which does not truncate attention.
    """

    gate: RankRatio = 0.5
    up: RankRatio = 0.005
    down: RankRatio = 0.005
    q: RankRatio | None = None
    k: RankRatio | None = None
    v: RankRatio | None = None
    qkv: RankRatio | None = None
    o: RankRatio | None = None


class Sweep(Contract):
    """Settings of the K-FAC edit to try, each combination of them.

    What is left out stays as the edit itself has it.
    """

    layers: Annotated[list[Layers], Field(min_length=1, max_length=64)] | None = None
    keep_mass: Annotated[list[KeepMass], Field(min_length=1, max_length=64)] | None = None
    projections: Annotated[list[Roles], Field(min_length=1, max_length=8)] | None = None

    @property
    def combinations(self) -> int:
        """How many settings there are."""
        return prod(len(values or [None]) for values in (self.layers, self.keep_mass, self.projections))


class Constraint(Contract):
    """What a setting must keep to be chosen: perplexity on clean text may grow by this share at most."""

    max_perplexity_increase: Annotated[float, Field(ge=0, le=100)] = 0.1


class Limits(Contract):
    """What the client asks of the edited model; the verdict compares."""

    max_strict: Annotated[float, Field(ge=0, le=1)] | None = None
    max_perplexity_increase: Annotated[float, Field(ge=0, le=100)] | None = None
    min_ndcg: Annotated[float, Field(ge=0, le=1)] | None = None


class EditEvaluation(Contract):
    """What is measured before and after.

    `memorized` is by default the forget set, `clean` the calibration set. `unseen` are memorized texts that
    the method is never shown, `control` texts that were never inserted, `items` questions with choices and
    an answer, or with a prefix and the suffix that answers it.

    `prefix_token` is what stands before the texts, as in the options of an audit: for what is measured, for
    the search, and for the forget set of BalancedSubnet. Items are asked as the tokenizer encodes them.
    """

    memorized_text_set: TextSetId | None = None
    unseen_text_set: TextSetId | None = None
    control_text_set: TextSetId | None = None
    clean_text_set: TextSetId | None = None
    items_text_set: TextSetId | None = None
    prefix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 64
    suffix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 48
    prefix_token: PrefixTokenChoice = "auto"  # noqa: S105 - a token of the vocabulary
    stress: bool = False
    limits: Limits = Limits()


class EditSpec(Contract):
    """How a language model is edited, as the workers read it.

    The defaults are those of arXiv 2510.24256: gate and up projections, three late layers (23 to 25 of 32),
    60 % of the curvature mass, labels sampled from the model, blocks of 512 tokens, 20 million tokens; for
    SVD gate, up and down of layer 21 of 32.
    """

    method: EditMethod
    layers: LayerChoice | None = None
    projections: Roles | None = None
    keep_mass: KeepMass = 0.6
    labels: Labels = "sampled"
    calibration_tokens: Annotated[int, Field(ge=1, le=10**9)] = 20_000_000
    block_tokens: Annotated[int, Field(ge=2, le=100_000)] = 512
    rank_ratio: RankRatios = RankRatios()
    balanced_subnet: BalancedSubnetOptions = BalancedSubnetOptions()
    sweep: Sweep | None = None
    constraint: Constraint = Constraint()
    evaluation: EditEvaluation = EditEvaluation()
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    dtype: Literal["float32", "bfloat16"] = "float32"

    @property
    def searches(self) -> bool:
        """Whether several settings are tried before one is written."""
        return self.sweep is not None or self.layers == "auto"


class MeanInterval(Described):
    """A mean (or a difference of means) of `n` numbers, and its 95 % interval [`low`, `high`].

    In the unit of the numbers.
    """

    n: int
    """How many numbers."""
    mean: float
    """Their mean."""
    low: float | None
    """Where the interval begins; null for fewer than two numbers, which say nothing of how they vary."""
    high: float | None
    """Where the interval ends; null likewise."""


class ShareInterval(Described):
    """How many of `n` texts have a property: `share` is `count` / `n`, with its 95 % interval in [0, 1].

    The interval has a width even where all texts have the property or none has.
    """

    n: int
    """How many texts were looked at."""
    count: int
    """How many of them have the property."""
    share: float
    """`count` / `n`."""
    low: float | None
    """Where the interval begins; null in results of an older release, whose intervals were too narrow."""
    high: float | None
    """Where the interval ends; null likewise."""

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, value: Any) -> Any:
        """A share as it was stored before: as a mean of noughts and ones."""
        if isinstance(value, dict) and "share" not in value and "mean" in value:
            n, share = value["n"], value["mean"]
            return {"n": n, "count": round(n * share), "share": share, "low": None, "high": None}
        return value
