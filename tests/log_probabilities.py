"""What transformers says of a text's tokens as the tokenizer encodes it: an oracle for scores."""

import copy

import torch
from torch import Tensor

from workers.science.models.loading import LanguageModel


@torch.inference_mode()
def log_probabilities(language_model: LanguageModel, text: str) -> tuple[Tensor, Tensor]:
    """Log-probabilities float64 [N, V] at each of a text's tokens, and the tokens int64 [N].

    A tokenizer that adds BOS gets one pass over that and the text. One that adds nothing gets two: BOS, else
    EOS, by itself for the first token, then the text by itself. Both must fit the context.
    """
    model = copy.deepcopy(language_model.model).double()
    tokenizer = language_model.tokenizer

    def following(token_ids: list[int]) -> Tensor:
        logits: Tensor = model(torch.tensor([token_ids])).logits[0]
        return logits.log_softmax(-1)

    encoded = tokenizer(text)["input_ids"]
    if encoded[0] == tokenizer.bos_token_id:
        return following(encoded)[:-1], torch.tensor(encoded[1:])
    alone = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return torch.cat([following([alone]), following(encoded)[:-1]]), torch.tensor(encoded)
