"""Numbers as readers see them, and results as rows of a table whatever was measured."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from pydantic import BaseModel

from app.contracts.results.intervals import MeanInterval, ShareDifference, ShareInterval
from app.contracts.results.ranking import AreaUnderCurve
from app.evidence.report.document import Table

NOTHING: Final = "\u2013"
HEADER: Final = ("quantity", "value", "95 % interval", "n")

Row = tuple[str, ...]
_MINUS: Final = "\u2212"
# Shares that are written in per cent, by the name of their field.
_SHARES: Final = frozenset({"share", "fpr", "before", "after", "fdr", "rate"})
_NAMES: Final = {
    "nl": "mean NL, nats per token",
    "nl_byte": "mean NL per byte, nats per UTF-8 byte",
    "perplexity": "perplexity",
    "log_likelihood": "log-likelihood of all texts, nats",
    "strict": "recited exactly (strict)",
    "loose": "recited with similarity of 0.75 or more (loose)",
    "similarity": "mean similarity of what was recited",
    "auc": "ROC AUC",
    "p_z": "p_z",
    "min_k": "Min-K%",
    "min_k_pp": "Min-K%++",
    "errors": "texts that could not be scored",
    "tokens": "tokens scored",
    "extraction_splits": "how texts were split for extraction",
    "verbatim": "recitation after prefixes of fixed length (verbatim)",
    "membership": "how well scores tell members from others (membership)",
    "at_fpr": "true positive rate",
    "fpr": "at a false positive rate of",
    "tpr": "members found",
    "measured_fpr": "others taken for members",
    "log_p_z": "mean log p_z, nats, of those not impossible",
    "largest_p_z": "largest p_z",
    "extraction_strength": "extraction strength",
    "exact_memorization": "exact memorization",
    "right": "share of tokens that it would choose",
    "impossible": "texts that are never sampled",
    "extractable": "extractable with probability 0.5",
    "n_members": "members",
    "n_others": "others",
    "sample": "drawn at random to be ranked",
    "statistic": "what was compared",
    "fdr": "accepted false discovery rate",
    "n_audited": "audited texts",
    "n_controls": "control texts",
    "controls_among_texts": "control texts left out, as they are audited too",
    "characters": "characters of a text that the classifier reads at most",
    "effect": "difference of means, nats per token",
    "permutation_p": "p-value of the difference, by permutation",
    "permutations": "permutations",
    "least_p": "least p-value that a text could have",
    "least_p_of_all": "least p-value that every text could have",
    "least_memorized": "texts that must exceed all controls before one is memorized",
    "check": "classifier",
    "check_within_strata": "classifier within strata",
    "by_duplicates": "inserted",
    "duplicates": "times",
}
# They say only how many texts a number that is missing would have needed.
_LEFT_OUT: Final = frozenset({"others_needed"})


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits; whole numbers whole."""
    if value is None:
        return NOTHING
    if isinstance(value, int):
        return f"{value:,}".replace("-", _MINUS)
    written = f"{value:.{digits}g}"
    if "e" in written and abs(value) >= 1:
        written = f"{value:,.0f}"
    return written.replace("-", _MINUS)


def percent(value: float | None) -> str:
    """A share in per cent."""
    if value is None:
        return NOTHING
    return f"{100 * value:.3g}\u00a0%".replace("-", _MINUS)


def exact_percent(value: float) -> str:
    """A share that was asked for, such as a confidence, in per cent as it was asked for: never rounded."""
    return f"{100 * value:.10g}\u00a0%"


def interval(estimate: Any, *, share: bool | None = None) -> str:
    """The 95 % interval of an estimate, or a dash."""
    if estimate is None or estimate.low is None or estimate.high is None:
        return NOTHING
    in_percent = isinstance(estimate, ShareInterval | ShareDifference) if share is None else share
    written = percent if in_percent else number
    return f"[{written(estimate.low)}, {written(estimate.high)}]"


def value_of(estimate: Any, *, share: bool | None = None) -> str:
    """The value of an estimate: the mean, the share, the area or the difference of shares."""
    if estimate is None:
        return NOTHING
    if isinstance(estimate, ShareInterval):
        return percent(estimate.share)
    if isinstance(estimate, ShareDifference):
        return percent(estimate.difference)
    if isinstance(estimate, AreaUnderCurve):
        return number(estimate.auc)
    return percent(estimate.mean) if share else number(estimate.mean)


def with_interval(estimate: Any, *, share: bool | None = None) -> str:
    """The value of an estimate with its interval."""
    told = interval(estimate, share=share)
    value = value_of(estimate, share=share)
    return value if told == NOTHING else f"{value} {told}"


def name_of(field: str) -> str:
    """The name of a result's field in words."""
    return _NAMES.get(field, field.replace("_", " "))


def rows_of(value: Any, name: str, field: str = "") -> Iterator[Row]:
    """Whatever was measured as rows of quantity, value, interval and n; what is null is left out."""
    if value is None:
        return
    if isinstance(value, ShareInterval):
        yield name, value_of(value), interval(value), f"{value.count:,} of {value.n:,}"
    elif isinstance(value, MeanInterval | ShareDifference):
        yield name, value_of(value), interval(value), number(value.n)
    elif isinstance(value, AreaUnderCurve):
        yield name, value_of(value), interval(value), f"{value.n_members:,} and {value.n_others:,}"
    elif isinstance(value, BaseModel):
        yield from _fields(value, name)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from rows_of(each, f"{name}: {name_of(str(key))}", str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _element(each, name)
    else:
        yield name, _scalar(value, field), NOTHING, NOTHING


def rows_in(value: Any) -> list[Row]:
    """The rows of a result whose table says what they are of."""
    if isinstance(value, BaseModel | dict):
        named = value.items() if isinstance(value, dict) else _named(value)
        return [row for field, each in named for row in rows_of(each, name_of(str(field)), str(field))]
    return [row for each in value for row in _element(each, "")]


def _named(value: BaseModel) -> Iterator[tuple[str, Any]]:
    return ((field, getattr(value, field)) for field in type(value).model_fields if field not in _LEFT_OUT)


def _fields(value: BaseModel, name: str, without: Iterable[str] = ()) -> Iterator[Row]:
    for field, each in _named(value):
        if field not in without:
            yield from rows_of(each, f"{name}: {name_of(field)}", field)


def _element(value: Any, name: str) -> Iterator[Row]:
    """An element of a list, called by its first field, which tells it from the others."""
    if not isinstance(value, BaseModel):
        yield from rows_of(value, name)
        return
    first = next(iter(type(value).model_fields))
    called = _scalar(getattr(value, first), first)
    prefix = f"{name}, " if name else ""
    yield from _fields(value, f"{prefix}{name_of(first)} {called}", without=[first])


def _scalar(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return percent(value) if field in _SHARES else number(value)
    if isinstance(value, int):
        return number(value)
    return str(value)


def numbers_table(caption: str, rows: Iterable[Row]) -> Table:
    """Rows of quantity, value, interval and n as a table; without the last two where no row has them."""
    told = tuple(rows)
    if all(row[2:] == (NOTHING, NOTHING) for row in told):
        return facts_table(caption, ((row[0], row[1]) for row in told))
    return Table(caption=caption, header=HEADER, columns=("text", "number", "number", "number"), rows=told)


def facts_table(caption: str, rows: Iterable[tuple[str, str]]) -> Table:
    """Names and values as a table."""
    return Table(caption=caption, header=HEADER[:2], columns=("text", "number"), rows=tuple(rows))


def counted(n: int, noun: str) -> str:
    """`1 text`, `2 texts`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(items) <= 1:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
