"""The check of a comparison: whether a classifier that sees only the texts tells audited ones from controls.

If it does, a difference in likelihood may be one of the texts and none of what the model saw: blind baselines
beat membership attacks on 8 of 8 published sets (Das, Zhang and Tramèr 2024, arXiv 2406.16201).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy import sparse, stats
from scipy.sparse import csgraph
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics.pairwise import rbf_kernel

from workers.science.calibration.exchangeability import Block, Labels, p_value, permuted

# A comparison whose p-value is at most this has been told apart: a fair one in three cases of 100.
LEVEL = 0.03
FOLDS = 5
# One of each kind in each fold.
FEWEST = FOLDS
# Texts of each kind that the classifier sees, and characters of each: a few seconds' work. Lengths are whole.
MOST_TEXTS = 400
MOST_CHARACTERS = 2_000
_PERMUTATIONS = 199
# Cosine of weighted words above which two texts are near-duplicates.
_NEAR_DUPLICATE = 0.8
# Lengths are alike if their ranks, from 0 to 1, differ by no more than about this.
_LIKE_LENGTH = 0.1

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ShownText:
    """What the classifier sees of a text: its beginning, and how long it is in all.

    Attributes:
        beginning: up to 2,000 characters.
        characters: of the whole text.
        words: of the whole text, parted by white space.
    """

    beginning: str
    characters: int
    words: int

    @classmethod
    def of(cls, text: str) -> Self:
        """What is kept of a whole text."""
        return cls(text[:MOST_CHARACTERS], len(text), len(text.split()))


@dataclass(frozen=True, slots=True)
class ComparisonCheck:
    """Whether a classifier that sees only the texts tells audited texts from controls.

    Attributes:
        n_audited: audited texts that it saw: a sample of many, and one of each side's near-duplicates.
        n_controls: controls that it saw, likewise.
        auc: its cross-validated ROC AUC, in [0, 1]; of two classifiers, one of which sees the length alone,
            the higher one, so that chance is a little above 0.5. None if there were too few texts.
        p_value: of such an AUC or a higher one if texts and controls are exchangeable, in (0, 1]; by
            permutation. None if there were too few texts.
        passed: p_value above 0.03: no difference was found, which few texts may hide. An AUC below chance
            passes.
    """

    n_audited: int
    n_controls: int
    auc: float | None
    p_value: float | None
    passed: bool


@dataclass(frozen=True, slots=True)
class SampledTexts:
    """What the classifier sees of a comparison.

    Attributes:
        places: where the texts stand among those that were shown [texts].
        labels: True for audited texts [texts].
        groups: near-duplicates have the same number [texts].
        kernels: how alike each two texts are [texts, texts]: in words, runs of characters and length; and in
            length alone, which many words would hide.
    """

    places: Block
    labels: Labels
    groups: npt.NDArray[np.int32]
    kernels: tuple[_Floats, _Floats]

    def check(self, strata: npt.NDArray[np.int_], random: np.random.Generator) -> ComparisonCheck:
        """Tell audited texts from controls of the same stratum.

        Ridge regressions on labels are fitted to four folds of five and rank the texts of the fifth. An AUC
        is over pairs of one fold and stratum, and so 0.5 on average by chance, for few texts too. The higher
        one counts. Labels are then permuted within folds and strata, and all is fitted again: if texts and
        controls are exchangeable, the p-value is at most t with a probability of at most t.

        Args:
            strata: number of each shown text's stratum; texts below 0 take no part.
            random: the source of folds and permutations.
        """
        own = strata[self.places]
        used = np.flatnonzero(own >= 0)
        labels = self.labels[used]
        n_audited, n_controls = int(labels.sum()), int((~labels).sum())
        if min(n_audited, n_controls) < FEWEST:
            return ComparisonCheck(n_audited, n_controls, None, None, passed=False)
        cells = own[used]
        folds = _folds(cells * 2 + labels, self.groups[used], random)
        splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(FOLDS)]
        blocks = [test[cells[test] == cell] for _, test in splits for cell in np.unique(cells[test])]
        columns = permuted(labels, blocks, _PERMUTATIONS, random)
        if not any(0 < labels[block].sum() < len(block) for block in blocks):
            return ComparisonCheck(n_audited, n_controls, None, None, passed=False)
        kernels = [kernel[np.ix_(used, used)] for kernel in self.kernels]
        aucs = np.max(
            [_pair_aucs(_ranked(kernel, columns, splits), columns, blocks) for kernel in kernels], axis=0
        )
        chance = p_value(float(aucs[0]), aucs[1:])
        return ComparisonCheck(n_audited, n_controls, float(aucs[0]), chance, passed=chance > LEVEL)


def sample_texts(shown: Sequence[ShownText], n_tokens: npt.NDArray[np.int_], labels: Labels) -> SampledTexts:
    """Weigh what the classifier sees.

    Near-duplicates stay in one fold, where a classifier cannot know a text by its copy; of those on one side
    only one is kept, as copies would count as evidence many times.

    Args:
        shown: audited texts and controls, at most MOST_TEXTS of each.
        n_tokens: their lengths [texts].
        labels: True for audited texts [texts].
    """
    beginnings = [text.beginning for text in shown]
    words = _similarities(TfidfVectorizer(sublinear_tf=True), beginnings)
    _, groups = csgraph.connected_components(sparse.csr_array(words > _NEAR_DUPLICATE), directed=False)
    _, kept = np.unique(np.stack([groups, labels]), axis=1, return_index=True)
    kept = np.sort(kept)
    runs = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, lowercase=False)
    kernel = words[np.ix_(kept, kept)] + _similarities(runs, [beginnings[place] for place in kept])
    length = _length_kernel([shown[place] for place in kept], n_tokens[kept])
    return SampledTexts(kept, labels[kept], groups[kept], (kernel + length, length))


def _folds(
    classes: npt.NDArray[np.int_], groups: npt.NDArray[np.int32], random: np.random.Generator
) -> npt.NDArray[np.int_]:
    """A fold for each text: each class spread evenly, each group whole [texts]."""
    order = np.lexsort((random.random(len(classes)), classes))
    _, first, group = np.unique(groups[order], return_index=True, return_inverse=True)
    folds = np.empty(len(classes), dtype=np.int_)
    folds[order] = (np.argsort(np.argsort(first)) % FOLDS)[group]
    return folds


def _similarities(vectorizer: TfidfVectorizer, texts: Sequence[str]) -> _Floats:
    """Cosines of weighted counts; texts without any are like none [texts, texts]."""
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no text has a word
        return np.zeros((len(texts), len(texts)))
    return np.asarray((weights @ weights.T).toarray(), np.float64)


def _length_kernel(texts: Sequence[ShownText], n_tokens: npt.NDArray[np.int_]) -> _Floats:
    """How alike lengths are, in tokens, characters and words [texts, texts]."""
    lengths = np.stack(
        [n_tokens, [text.characters for text in texts], [text.words for text in texts]], axis=1
    )
    ranks = stats.rankdata(lengths, axis=0) / len(texts)
    return np.asarray(rbf_kernel(ranks, gamma=1 / (2 * ranks.shape[1] * _LIKE_LENGTH**2)) / 2)


def _ranked(
    kernel: _Floats, columns: npt.NDArray[np.bool_], splits: Sequence[tuple[Block, Block]]
) -> _Floats:
    """What is predicted of each text by a regression on the other folds, for each column of labels."""
    predicted = np.empty(columns.shape)
    for train, test in splits:
        targets = columns[train].astype(np.float64)
        regression = KernelRidge(kernel="precomputed", alpha=1.0)
        regression.fit(kernel[np.ix_(train, train)], targets - targets.mean(axis=0))
        predicted[test] = regression.predict(kernel[np.ix_(test, train)])
    return predicted


def _pair_aucs(predicted: _Floats, columns: npt.NDArray[np.bool_], blocks: Sequence[Block]) -> _Floats:
    """The ROC AUC over pairs of texts of one block, of which there are some [columns]."""
    above, pairs = np.zeros(columns.shape[1]), 0
    for block in blocks:
        audited = int(columns[block, 0].sum())
        ranks = stats.rankdata(predicted[block], axis=0)
        above += (ranks * columns[block]).sum(axis=0) - audited * (audited + 1) / 2
        pairs += audited * (len(block) - audited)
    return np.asarray(above / pairs)
