"""How an edit is asked for."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Discriminator, Field, Tag, create_model

from app.contracts.audits import PrefixTokenChoice
from app.contracts.base import TAG_MARK, Contract
from app.contracts.edit_methods import METHODS
from app.contracts.edit_methods.balanced_subnet import BalancedSubnetOptions
from app.contracts.edit_methods.kfac import (
    Constraint,
    KeepMass,
    Labels,
    RetainWeight,
    Sweep,
)
from app.contracts.edit_methods.kfac_recovery import Recovery
from app.contracts.edit_methods.svd import RankRatios
from app.contracts.projections import LayerChoice, Roles
from app.contracts.texts import TextSetId

if TYPE_CHECKING:
    EditMethod = str
else:
    EditMethod = Literal[tuple(METHODS)]

OptionsT = TypeVar("OptionsT", bound=Contract)


def _stress_tag(value: Any) -> str:
    return TAG_MARK + ("name" if isinstance(value, str) else "flag")


# How hard it is tried to bring memories back. A number is no flag.
Stress = Annotated[
    Annotated[bool, Tag("tag:flag")] | Annotated[Literal["full"], Tag("tag:name")], Discriminator(_stress_tag)
]


class Limits(Contract):
    """What the client asks of the edited model; the verdict compares it with 95 % intervals.

    `max_strict` of 0 and `min_ndcg` of 1 can be broken, never shown to be kept: intervals end above 0 and
    begin below 1, so such a limit is at best `inconclusive`. `max_strict` of 0.05 takes 72 texts of which
    none is recited.

    `max_auc_distance` is how far from 0.5 the membership AUC of memorized and unseen texts against those
    never inserted may be, above it or below: a model that avoids texts tells them apart as well.
    """

    max_strict: Annotated[float, Field(ge=0, le=1)] | None = None
    max_perplexity_increase: Annotated[float, Field(ge=0, le=100)] | None = None
    min_ndcg: Annotated[float, Field(ge=0, le=1)] | None = None
    max_auc_distance: Annotated[float, Field(ge=0, le=0.5)] | None = None


class EditEvaluation(Contract):
    """What is measured before and after.

    `memorized` is by default the forget set, `clean` the calibration set. `unseen` are memorized texts that
    the method is never shown, `control` texts that were never inserted, `items` questions with choices and
    an answer, or with a prefix and the suffix that answers it.

    `prefix_token` is what stands before the texts, as in the options of an audit: for what is measured,
    questions too, for the search, for recovery, and for the forget set of BalancedSubnet.

    `stress` tries to bring the memories back: true by other prompts and coarser weights, "full" also by the
    layers, by generation and by relearning. `reference_model` is the id of a language model that never saw
    the texts, such as the standard model of a pair: its numbers are what forgetting could reach.
    """

    memorized_text_set: TextSetId | None = None
    unseen_text_set: TextSetId | None = None
    control_text_set: TextSetId | None = None
    clean_text_set: TextSetId | None = None
    items_text_set: TextSetId | None = None
    prefix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 64
    suffix_tokens: Annotated[int, Field(ge=1, le=100_000)] = 48
    prefix_token: PrefixTokenChoice = "auto"  # noqa: S105 - a token of the vocabulary
    stress: Stress = False
    reference_model: Annotated[str, Field(max_length=100)] | None = None
    limits: Limits = Limits()


def _with_own_options(spec: type["EditSpec"]) -> type["EditSpec"]:
    """The contract with a field for the own options of each method that has some, named as the method.

    What is not given is not in its JSON either: a new method changes no request and no row of the others.
    """
    fields: dict[str, Any] = {
        method.name: (method.own_options | None, Field(default=None, exclude_if=lambda value: value is None))
        for method in METHODS.values()
        if method.own_options is not None
    }
    if not fields:
        return spec
    return create_model(
        spec.__name__, __base__=spec, __module__=spec.__module__, __doc__=spec.__doc__, **fields
    )


@_with_own_options
class EditSpec(Contract):
    """How a language model is edited, as the workers read it.

    The defaults are those of arXiv 2510.24256: gate and up projections, three late layers (23 to 25 of 32),
    labels sampled from the model, blocks of 512 tokens, 20 million tokens; for SVD gate, up and down of layer
    21 of 32. Without `keep_mass` K-FAC keeps the paper's 60 % of the curvature mass, or the least that the
    constraint allows if that is more.

    With a retain set of weight w the curvature is (1 - w) times that of the calibration set and w times its
    own, and `recovery` trains the edited matrices on its texts for a few steps.
    """

    method: EditMethod
    layers: LayerChoice | None = None
    projections: Roles | None = None
    keep_mass: KeepMass | None = None
    retain_weight: RetainWeight | None = None
    recovery: Recovery | None = None
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

    def own_options(self, kind: type[OptionsT]) -> OptionsT:
        """What was given under the method's own name, or the defaults of that."""
        given = getattr(self, self.method)
        if given is None:
            return kind()
        assert isinstance(given, kind)
        return given
