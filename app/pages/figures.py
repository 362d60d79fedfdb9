"""Numbers, times and statuses as pages write them."""

from collections.abc import Callable
from datetime import datetime
from math import exp, isfinite
from typing import Any, Final

from markupsafe import Markup, escape

from app.contracts.results.intervals import MeanInterval, ShareDifference, ShareInterval
from app.contracts.results.ranking import AreaUnderCurve

ABSENT: Final = "–"  # noqa: RUF001 - a dash
_MINUS: Final = "\u2212"
_THIN: Final = "\u202f"
_KILO: Final = 1000
_SMALL: Final = 0.001
_MINUTE, _HOUR = 60, 3600
_ACRONYMS: Final = {"auc": "AUC", "nl": "NL"}
# What is called otherwise than its field.
_NAMES: Final = {
    "strict": "recited exactly",
    "loose": "recited nearly",
    "min_k": "Min-K%",
    "min_k_pp": "Min-K%++",
    "log_p_z": "mean log p_z",
    "kfac": "K-FAC",
    "balanced_subnet": "BalancedSubnet",
    "svd": "truncated SVD",
}


def number(value: float | None, digits: int = 2) -> str:
    """A number with so many decimals."""
    if value is None:
        return ABSENT
    if not isfinite(value):
        return "∞"
    text = f"{value:,.{digits}f}".replace(",", _THIN)
    # What rounds to nought has no sign.
    return text.lstrip("-") if not text.strip("-0.") else text.replace("-", _MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """A difference: positive ones have a plus."""
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip("0.") else text


def count(value: int | None) -> str:
    """A whole number, in groups of three digits."""
    return number(value, 0)


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent."""
    return ABSENT if value is None else f"{number(100 * value, digits)}{_THIN}%"


def exact_percent(value: float | None) -> str:
    """A share that was asked for, such as a confidence, as per cent: never rounded."""
    return ABSENT if value is None else f"{100 * value:.10g}{_THIN}%"


def signed_percent(value: float | None, digits: int = 1) -> str:
    """A change as per cent."""
    return ABSENT if value is None else f"{signed(100 * value, digits)}{_THIN}%"


def probability(value: float | None) -> str:
    """A probability, a p-value or a q-value; very small ones in powers of ten."""
    if value is None:
        return ABSENT
    if value == 0:
        return "0"
    if value < _SMALL:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}·10{_raised(int(exponent))}"
    return number(value, 3)


def _raised(exponent: int) -> str:
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def mean(interval: MeanInterval | None, digits: int = 2) -> str:
    """A mean with its 95 % interval."""
    return _with_interval(interval, lambda value: number(value, digits))


def difference(interval: MeanInterval | None, digits: int = 2) -> str:
    """A difference of means with its 95 % interval."""
    return _with_interval(interval, lambda value: signed(value, digits))


def change(interval: ShareDifference | None) -> str:
    """What changed of a share with its 95 % interval, in per cent of all."""
    return _with_interval(interval, signed_percent)


def growth(interval: MeanInterval | None) -> str:
    """A relative change with its 95 % interval, in per cent."""
    return _with_interval(interval, signed_percent)


def share(interval: ShareInterval | None) -> str:
    """A share of texts with its 95 % interval, in per cent."""
    return _with_interval(interval, percent)


def area(interval: AreaUnderCurve | None) -> str:
    """An area under a curve with its 95 % interval."""
    return _with_interval(interval, number)


def _with_interval(
    interval: MeanInterval | ShareInterval | ShareDifference | AreaUnderCurve | None,
    write: Callable[[float | None], str],
) -> str:
    match interval:
        case None:
            return ABSENT
        case ShareInterval():
            value = write(interval.share)
        case ShareDifference():
            value = write(interval.difference)
        case AreaUnderCurve():
            value = write(interval.auc)
        case MeanInterval():
            value = write(interval.mean)
    if interval.low is None or interval.high is None:
        return value
    return f"{value} [{write(interval.low)}, {write(interval.high)}]"


def size(value: int | None) -> str:
    """Bytes in the unit that keeps the number short."""
    if value is None:
        return ABSENT
    amount, units = float(value), ["B", "kB", "MB", "GB", "TB"]
    while amount >= _KILO and len(units) > 1:
        amount, units = amount / _KILO, units[1:]
    return f"{number(amount, 0 if units[0] == 'B' else 1)}{_THIN}{units[0]}"


def large(value: int | None) -> str:
    """A large count, as of parameters: 7.0 B, 1.3 M."""
    if value is None:
        return ABSENT
    for scale, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if value >= scale:
            return f"{number(value / scale, 1)}{_THIN}{unit}"
    return str(value)


def moment(value: datetime | None) -> str:
    """A time in UTC, to the minute."""
    return ABSENT if value is None else f"{value:%Y-%m-%d %H:%M} UTC"


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return ABSENT
    if value < _MINUTE:
        return f"{number(value, 1)}{_THIN}s"
    minutes, rest = divmod(round(value), _MINUTE)
    if value < _HOUR:
        return f"{minutes}{_THIN}min {rest}{_THIN}s"
    return f"{minutes // _MINUTE}{_THIN}h {minutes % _MINUTE}{_THIN}min"


def token_probability(log_likelihood: float | None) -> str:
    """The probability of a token, of its log-likelihood."""
    return ABSENT if log_likelihood is None else probability(exp(log_likelihood))


def words(name: str) -> str:
    """A field's name or a code as words."""
    return _NAMES.get(name) or " ".join(_ACRONYMS.get(word, word) for word in name.split("_"))


def heading(name: str) -> str:
    """A field's name as a heading."""
    text = words(name)
    return text[:1].upper() + text[1:]


def marked(text: str) -> Markup:
    """A sentence of ours, with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def figure(value: float | None) -> str:
    """A number whose size is not known before, to three digits."""
    if value is None:
        return ABSENT
    if value and abs(value) < _SMALL:
        return signed_probability(value)
    return (
        f"{value:,.3g}".replace(",", _THIN).replace("-", _MINUS) if abs(value) < _KILO else number(value, 0)
    )


def signed_probability(value: float) -> str:
    """A number near nought in powers of ten, of either sign."""
    return probability(value) if value > 0 else _MINUS + probability(-value)


def gist(description: str) -> str:
    """What a field is, of its description: without when it is null, and without more than one sentence."""
    return (
        description.split("; null", maxsplit=1)[0].split(". ", maxsplit=1)[0].replace("`", "").rstrip(".")
        + "."
    )


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    each.__name__: each
    for each in (
        number,
        signed,
        count,
        percent,
        exact_percent,
        signed_percent,
        probability,
        mean,
        difference,
        change,
        area,
        growth,
        share,
        size,
        large,
        moment,
        seconds,
        token_probability,
        words,
        heading,
        marked,
        gist,
        figure,
    )
}
