"""A few texts to score at once, and their scores."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from app.audits.score_schemas import ScoreOut
from app.contracts.audits import AuditSpec
from app.contracts.sources import LanguageModelReference
from app.contracts.texts import TextRecord

MAX_TEXTS = 64
MAX_WAIT_SECONDS = 60


class ScoreRequest(AuditSpec):
    """Up to 64 short texts, to be scored while the client waits up to `timeout` seconds."""

    model: LanguageModelReference
    texts: Annotated[list[TextRecord], Field(min_length=1, max_length=MAX_TEXTS)]
    timeout: Annotated[float, Field(ge=0, le=MAX_WAIT_SECONDS)] = 30

    def spec(self) -> AuditSpec:
        """What the workers need of it."""
        return AuditSpec(metrics=self.metrics, options=self.options)


class ScoreList(BaseModel):
    """The scores of all texts, in order.

    `audit` can be read like any other, with its evidence; `text_set` holds the texts until it is deleted.
    """

    object: Literal["score_list"] = "score_list"
    audit: str
    text_set: str
    data: list[ScoreOut]
