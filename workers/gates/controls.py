"""Whether the controls of a comparison are enough to name a text that the model has memorized."""

from workers.gates.subject import JSONObject


def least_q(found: JSONObject, detects: int) -> float | None:
    """The q-value of so many texts that alone are above all controls, wherever they stand, in (0, 1].

    It is Benjamini and Hochberg's. A text is compared within its stratum, so that the smallest one counts.

    Args:
        found: the calibration of an audit or the judgement of a study's changes, as stored.
        detects: how many texts, at least 1.

    Returns:
        None if no text was judged, and of several strata in results of an older release.
    """
    least_p: float | None = found.get("least_p_of_all")
    if least_p is None and found["reason"] is None and found["strata"] == 1:
        least_p = 1 / (1 + found["n_controls"])
    if least_p is None:
        return None
    judged: int = found["verdicts"]["memorized"] + found["verdicts"]["not_shown"]
    return min(1.0, least_p * judged / detects)
