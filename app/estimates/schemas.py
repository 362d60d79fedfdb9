"""Estimates as they are answered."""

from datetime import datetime
from typing import Literal

from app.contracts.base import Described

TokensBasis = Literal["counted", "measured", "assumed", "unknown"]
SecondsBasis = Literal["measured", "scaled", "unknown"]


class AuditEstimate(Described):
    """An audit that the work consists of or waits for: a text set under a language model."""

    role: str
    """What it is to the work: `audit` is the one that was asked for."""
    model: str
    """The language model; of one that is not registered yet, an id that is not kept."""
    text_set: str
    """The text set."""
    texts: int
    """Texts of the set; 0 while it is being imported."""
    tokens: int | None
    """Their tokens under this language model; null while the texts are being imported."""
    tokens_basis: TokensBasis
    """`counted` by an audit of these texts; `measured`: bytes times the tokens per byte of your audits under
    this language model; `assumed`: 0.25 tokens in a byte; `unknown`: the texts are not there yet."""


class Memory(Described):
    """What is held in memory at once, in bytes: at least so much, however small the batches are."""

    bytes_needed: int | None
    """Of the weights and of what is held beside them; null for a language model not validated yet."""
    weights_bytes: int | None
    """Of the weights of the largest language model, in the dtype that was asked for; an edit holds the edited
    ones too. Null as `bytes_needed`."""
    working_bytes: int | None
    """Of logits of one row of tokens or, if that is more, what the edit method holds while it works; null as
    `bytes_needed`."""


class WorkerClassEstimate(Described):
    """What the work would take on workers of one class."""

    worker_class: str
    """Its name: device, threads if that is a processor, memory."""
    device: str
    """The GPU, or the processor."""
    memory_bytes: int
    """Of the GPU, or what the process may use of the machine's."""
    last_seen_at: datetime
    """When a worker of this class was last there; classes not seen for a week are left out."""
    fits: bool | None
    """Whether the memory suffices; null if it is not known how much is needed."""
    seconds: float | None
    """From the first job to the last, on one idle worker of this class that has the language models loaded.
    More workers divide the time of shards among them, but of no other job. Null if nothing was measured."""
    loading_seconds: float | None
    """To load the language models, which comes on top where they are not in memory; null likewise."""
    basis: SecondsBasis
    """`measured`: the same of the same language model; `scaled`: other metrics, or other language models in
    proportion to their parameters; `unknown`: nothing like it was done by this class."""


class Estimate(Described):
    """What work would take. Nothing was written, and nothing goes on."""

    object: Literal["estimate"] = "estimate"
    texts: int
    """Texts to score; a text counts once for each language model. 0 while they are being imported."""
    tokens: int | None
    """Tokens of these texts, likewise; null while they are being imported."""
    forward_passes: float | None
    """How often each token goes through a model, on average: 1 where metrics follow from the one pass, more
    where they decode or ask questions of their own. An approximation; null as `tokens`."""
    forward_tokens: int | None
    """Tokens that go through a model in all: `tokens` times `forward_passes`."""
    jobs: int | None
    """Jobs that workers run; null as `tokens`."""
    companions: list[AuditEstimate]
    """The audits that it takes."""
    memory: Memory
    """What has to be in memory."""
    by_worker_class: list[WorkerClassEstimate]
    """For each class of workers that can run it and was seen lately."""
    fits: bool | None
    """Whether it fits a class of workers; null if that is not known, or no worker was seen lately. Where this
    is false, the request itself is refused (`does-not-fit`)."""
    notes: list[str]
    """What the numbers stand on, and what they leave out."""
