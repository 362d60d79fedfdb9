"""Included by a worker: a defect whose exception quotes the texts of the job at hand."""

from typing import Any

from workers.audits import score

MARK = "leakjob"
_score_and_measure = score._score_and_measure


def _quoting(subject: Any, texts: Any, *rest: Any) -> Any:
    if any(MARK in text.text for text in texts):
        raise RuntimeError(f"cannot score {[text.text for text in texts]}")
    return _score_and_measure(subject, texts, *rest)


score._score_and_measure = _quoting
