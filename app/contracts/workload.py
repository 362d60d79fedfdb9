"""How much goes through a language model for an audit: the units in which jobs are measured and foreseen.

A unit is a token in a forward pass. What decodes, or asks questions of its own, sends more tokens through the
model than the texts have; how many depends on what it finds there, so that these are approximations. They
bridge the gap between sets of metrics: where the same set was measured, they cancel out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from app.contracts.metrics.registry import METRICS

if TYPE_CHECKING:
    from app.contracts.audits import AuditOptions, AuditSpec


@dataclass(frozen=True, slots=True)
class Texts:
    """How many texts there are, and how many tokens they have in all."""

    count: int
    tokens: float


NO_TEXTS: Final = Texts(0, 0.0)

# What a processor scores of a language model of so many parameters within some seconds is a whole shard.
_PARAMETERS_OF_WHOLE_SHARDS: Final = 16_000_000
_FEWEST_TOKENS: Final = 1024
# A core takes about half a second for so many parameters times tokens.
_PART: Final = 18_000_000_000


def most_tokens_of_shard(limit: int, parameter_count: int | None, *, on_processor: bool) -> int:
    """Tokens that one job scores at most: `limit`, and on a processor fewer of a large language model.

    What is more urgent waits until a worker ends its shard, so that none may take minutes.
    """
    if not on_processor or parameter_count is None or parameter_count <= _PARAMETERS_OF_WHOLE_SHARDS:
        return limit
    return min(limit, max(_FEWEST_TOKENS, limit * _PARAMETERS_OF_WHOLE_SHARDS // parameter_count))


def most_tokens_of_part(parameter_count: int | None, *, on_processor: bool) -> int | None:
    """About how many tokens a core scores in half a second, at least 1,024; None for a GPU.

    After each part of a shard a worker looks whether somebody waits for it.
    """
    if not on_processor or parameter_count is None:
        return None
    return max(_FEWEST_TOKENS, _PART // max(1, parameter_count))


def what_is_measured(spec: "AuditSpec") -> str:
    """The name of what an audit measures, as far as it costs time: metrics, options that they read, dtype."""
    names = [_with_sizes(metric, spec.options) for metric in sorted(set(spec.metrics))]
    kept = ":evidence" if spec.options.token_evidence else ""
    return f"{'+'.join(names)}:{spec.options.dtype}{kept}"


def _with_sizes(metric: str, options: "AuditOptions") -> str:
    """A metric and the options that its cost depends on, as far as they were given."""
    read = METRICS[metric].sized_by if metric in METRICS else ()
    sizes = [value for option in read if (value := getattr(options, option)) is not None]
    written = [str(size) if isinstance(size, int) else size.model_dump_json() for size in sizes]
    return f"{metric}({','.join(written)})" if written else metric


def audit_tokens(metrics: Sequence[str], options: "AuditOptions", texts: Texts) -> float:
    """Tokens that go through the model for an audit of texts: a pass over all, and what metrics ask more."""
    more = (
        METRICS[name].more_tokens(options, texts.count, texts.tokens) for name in metrics if name in METRICS
    )
    return texts.tokens + sum(more)
