"""Whether an answer says what it should, word by word: SQuAD's normalisation, F1 and recall.

Sources: the evaluation script of SQuAD 1.1 (Rajpurkar et al., arXiv 1606.05250); HUBBLE (arXiv 2510.19811),
which compares the parts of an e-mail address and asks whether the answer begins as it should.
"""

import re
import string
from collections import Counter

from workers.science.metrics.metric import MetricResult

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_PUNCTUATION_APART = str.maketrans({mark: f" {mark} " for mark in string.punctuation})


def normalized_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and the articles a, an, the.

    In a text with an `@` each mark of punctuation is a word, so that addresses agree part by part (HUBBLE).
    """
    apart = _PUNCTUATION_APART if "@" in text else _WITHOUT_PUNCTUATION
    return _ARTICLES.sub(" ", text.lower().translate(apart)).split()


def agreement(said: str, answer: str) -> MetricResult:
    """How far an answer agrees with the right one.

    Args:
        said: the answer.
        answer: the right one, of one word at least.

    Returns:
        Each 0 to 1 or true or false, higher is better. `f1`: the harmonic mean of the shares of common words
        in both, each word as often as both have it. `recall`: their share in the right answer, which going
        on too long does not lower. `prefix_match`: whether the words begin with all of the right answer's.
    """
    words, right = normalized_words(said), normalized_words(answer)
    common = sum((Counter(words) & Counter(right)).values())
    return {
        "f1": 2 * common / (len(words) + len(right)),
        "recall": common / len(right),
        "prefix_match": words[: len(right)] == right,
    }
