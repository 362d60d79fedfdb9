"""The logit lens: what each layer of a language model would say, had it been the last.

What stands behind the last layer (its norm, and where there is one a projection) and the output embedding are
applied to the output of each layer (nostalgebraist 2020, "interpreting GPT: the logit lens"; Belrose et al.,
arXiv 2303.08112, section 2). A text whose tokens are likely in the middle and unlikely at the end was hidden,
not erased.

Shapes: B texts, S places, H hidden size, N predicting places, L tokens of a suffix.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from workers.science.errors import ScienceError
from workers.science.evaluation.suffixes import Suffix, map_suffixes
from workers.science.models.loading import LanguageModel, probe_tokens
from workers.science.scoring.likelihood import Wanted, base_hidden_states, score_positions

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LayerReading:
    """What the layers say of one text's suffix; the last of them is the model itself.

    Attributes:
        text: its place, as `Suffix.text`.
        log_likelihood: float64 [layers], mean over the suffix' tokens, in nats, at most 0.
        right: float64 [layers], the share of these tokens that are the greedy choice, in [0, 1].
    """

    text: int
    log_likelihood: Numbers
    right: Numbers


class LogitLens:
    """Reads a model by its layers.

    Args:
        language_model: the model.

    Raises:
        ScienceError: `no_logit_lens`, if what follows the last layer does not make the model's own hidden
            states of that layer's output.
    """

    def __init__(self, language_model: LanguageModel) -> None:
        self._language_model = language_model
        self._layers = _layers_of(language_model.model.base_model)
        tokens = probe_tokens(language_model)
        with torch.inference_mode(), _recorded(language_model.model, self._layers) as recorded:
            expected = base_hidden_states(language_model.model, tokens)
        self._tail = recorded.tail
        with torch.inference_mode():
            found = self._after(recorded.outputs[-1])
        if found.shape != expected.shape or not torch.equal(found, expected):
            raise ScienceError(
                "no_logit_lens", "What follows the last layer of this architecture cannot be told."
            )

    @property
    def layers(self) -> int:
        """How many layers there are."""
        return len(self._layers)

    def read(self, suffixes: Sequence[Suffix]) -> Iterator[LayerReading]:
        """Read suffixes, those of like length together."""
        model = self._language_model.model

        def by_layer(inputs: Tensor, predicts: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
            """Log-likelihoods and whether the choice is right, [layers, N] each."""
            with _recorded(model, self._layers) as recorded:
                base_hidden_states(model, inputs)
            hidden = (self._after(output)[predicts.to(output.device)] for output in recorded.outputs)
            scored = [
                score_positions(model, each.to(targets.device), targets, Wanted(choice=True))
                for each in hidden
            ]
            right = [each.choice == targets for each in scored if each.choice is not None]
            return torch.stack([each.log_likelihood for each in scored]), torch.stack(right)

        for some, (log_likelihood, right) in map_suffixes(self._language_model, suffixes, by_layer):
            lengths = [len(suffix.token_ids) for suffix in some]
            by_text = (torch.split(each.double().cpu(), lengths, 1) for each in (log_likelihood, right))
            for suffix, likely, correct in zip(some, *by_text, strict=True):
                yield LayerReading(suffix.text, likely.mean(1).numpy(), correct.mean(1).numpy())

    def _after(self, output: Tensor) -> Tensor:
        """What the model makes of a layer's output [B, S, H] if no layer follows."""
        for module in self._tail:
            output = module(output)
        return output


@dataclass
class _Recorded:
    """The outputs of the layers [B, S, H], and the modules that were called one by one behind the last."""

    outputs: list[Tensor] = field(default_factory=list)
    tail: list[nn.Module] = field(default_factory=list)


@contextmanager
def _recorded(model: Any, layers: Sequence[nn.Module]) -> Iterator[_Recorded]:
    """Record what the layers of a model put out while it runs once."""
    found = _Recorded()
    open_calls: list[nn.Module] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.outputs.append(output if isinstance(output, Tensor) else output[0])

    def enter(module: nn.Module, _inputs: Any) -> None:
        if len(found.outputs) == len(layers):
            if not open_calls:
                found.tail.append(module)
            open_calls.append(module)

    def leave(module: nn.Module, _inputs: Any, _output: Any) -> None:
        if open_calls and open_calls[-1] is module:
            open_calls.pop()

    inside = {id(module) for layer in layers for module in layer.modules()}
    behind = [module for module in model.base_model.modules() if id(module) not in inside]
    handles = [layer.register_forward_hook(keep) for layer in layers]
    for module in behind:
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _layers_of(base_model: nn.Module) -> Sequence[nn.Module]:
    """The decoder's layers: of its lists of modules the one that holds most numbers."""
    lists = [module for module in base_model.modules() if isinstance(module, nn.ModuleList)]
    sizes = [sum(number.numel() for layer in each for number in layer.parameters()) for each in lists]
    return list(lists[sizes.index(max(sizes))])
