"""What greedy decoding recites of each suffix: read off the forward pass, decoded on from a mistake."""

from collections.abc import Callable

import numpy as np

from workers.science.metrics.splits import Split
from workers.science.metrics.tokens import TokenIds, known_continuation, matched_tokens
from workers.science.models.loading import LanguageModel
from workers.science.scoring.forward import Ledger
from workers.science.scoring.greedy import Prompt, continue_greedily
from workers.science.scoring.prefix_token import PrefixToken


class Recitations:
    """The greedy continuations of texts whose forward pass is done.

    Attributes:
        said: by text, int64 [at most L]: the continuation as far as it is known.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        ledger: Ledger,
        prefix_token: PrefixToken,
        end_tokens: frozenset[int],
    ) -> None:
        self.said: dict[int, TokenIds] = {}
        self._language_model = language_model
        self._ledger = ledger
        self._in_front = np.asarray(prefix_token.in_front, dtype=np.int64)
        self._end_tokens = end_tokens
        self._prompts: dict[int, Prompt] = {}

    def begin(self, text: int, split: Split) -> bool:
        """Read off what is known of a text's continuation; says whether that is all of it."""
        suffix = self._ledger.suffix(text, split)
        tokens, choices = self._ledger.token_ids[suffix], self._ledger.choice[suffix]
        matched = matched_tokens(tokens == choices, self._ledger.ends[suffix])
        said, complete = known_continuation(tokens, choices, matched, self._end_tokens)
        self.said[text] = said
        if not complete:
            prefix = self._ledger.token_ids[self._ledger.starts[text] : suffix.start]
            start = np.concatenate((self._in_front, prefix, said))
            self._prompts[text] = Prompt(start, split.suffix_tokens - len(said))
        return complete

    def finish(self, on_batch: Callable[[int], None]) -> None:
        """Decode the rest of every continuation; `on_batch` is told how many each batch completes."""
        continuations = continue_greedily(self._language_model, list(self._prompts.values()), on_batch)
        for text, continuation in zip(self._prompts, continuations, strict=True):
            self.said[text] = np.concatenate((self.said[text], continuation))
