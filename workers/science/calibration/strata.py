"""Strata of texts that are alike in length and in how likely they are to a model that saw none of them."""

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from workers.science.calibration.exchangeability import Labels

# Five remove nine tenths of what a covariate feigns (Cochran 1968; Rosenbaum and Rubin 1984).
_MOST = 5
# In no stratum, as no controls are like it, or too few.
LEFT_OUT = -1


def stratify(
    n_tokens: npt.NDArray[np.int_],
    reference: npt.NDArray[np.float64] | None,
    labels: Labels,
    *,
    least_controls: int,
) -> npt.NDArray[np.int_] | None:
    """Strata of the propensity to be audited, given length and reference likelihood alone.

    Args:
        n_tokens: length of each text [texts].
        reference: `nl` under a reference model [texts], if there is one.
        labels: True for audited texts [texts].
        least_controls: that a stratum needs; texts of one with fewer are left out, and those without audited
            texts.

    Texts less or more likely to be audited than any of the other kind are left out.

    Returns:
        The number of each text's stratum, or `LEFT_OUT` [texts]. None if there are too few texts for two, or
        none of one kind is like any of the other.
    """
    count = min(_MOST, int((~labels).sum()) // max(least_controls, 2), int(labels.sum()) // 2)
    if count < 2:  # noqa: PLR2004 - one stratum is no stratum
        return None
    covariates = [np.log(n_tokens)] if reference is None else [np.log(n_tokens), reference]
    features = PolynomialFeatures(2, include_bias=False).fit_transform(np.stack(covariates, axis=1))
    features = StandardScaler().fit_transform(features)
    propensity = LogisticRegression(max_iter=1_000).fit(features, labels).decision_function(features)
    sides = propensity[labels], propensity[~labels]
    shared = (propensity >= max(map(np.min, sides))) & (propensity <= min(map(np.max, sides)))
    if not shared.any():
        return None
    borders = np.quantile(propensity[shared], np.arange(1, count) / count)
    strata = np.where(shared, np.searchsorted(borders, propensity, side="left"), LEFT_OUT)
    for stratum in range(count):
        inside = strata == stratum
        if (inside & ~labels).sum() < least_controls or not (inside & labels).any():
            strata[inside] = LEFT_OUT
    return strata
