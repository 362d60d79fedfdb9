"""What greedy decoding says by itself: no token of a suffix is given, and no likelihood is looked at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from workers.science.evaluation.suffixes import Suffix
from workers.science.models.loading import LanguageModel
from workers.science.scoring.greedy import Prompt, continue_greedily


@dataclass(frozen=True, slots=True)
class GeneratedSuffix:
    """What was said after one prompt.

    Attributes:
        exact: whether it is the suffix.
        similarity: 1 less the Levenshtein distance in tokens over the suffix' length, in [0, 1].
    """

    exact: bool
    similarity: float


def generate_suffixes(
    language_model: LanguageModel, suffixes: Sequence[Suffix], on_batch: Callable[[int], None]
) -> list[GeneratedSuffix]:
    """Continue each prompt by as many tokens as its suffix has, and compare.

    Where numbers are exact, `exact` is what teacher forcing says (`strict`): this is the check of that.

    Args:
        language_model: the model.
        suffixes: of texts.
        on_batch: told how many prompts each batch has done; may raise to stop.
    """
    prompts = [Prompt(suffix.prompt, len(suffix.token_ids)) for suffix in suffixes]
    found = []
    for suffix, said in zip(suffixes, continue_greedily(language_model, prompts, on_batch), strict=True):
        wanted = suffix.token_ids.tolist()
        distance = Levenshtein.distance(said.tolist(), wanted)
        found.append(GeneratedSuffix(said.tolist() == wanted, 1 - distance / len(wanted)))
    return found
