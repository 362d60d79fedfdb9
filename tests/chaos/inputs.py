"""What the load works on: tiny checkpoints, and texts that all hold one word that may appear nowhere else."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.edit_requests import RECITED
from tests.tiny_models import english_sentences, save_reciting_model, save_tiny_model

# In every text; a log or a broker that holds it has leaked one.
CANARY: Final = "quizzaciously"
TEXTS: Final = 120


@dataclass(frozen=True)
class Inputs:
    """The checkpoints' directories, and sentences to make texts of."""

    plain: Path
    reciting: Path
    sentences: list[str]

    def texts(self, first: int, count: int = TEXTS, **facts: Any) -> list[dict[str, Any]]:
        """So many texts from the manual, with what is known of them."""
        some = [self.sentences[(first + number) % len(self.sentences)] for number in range(count)]
        return [
            {
                "id": f"t{number}",
                "text": f"{CANARY} {some[number]}"[: 70 + number % 240],
                "duplicates": 4 ** (number % 3),
                "group": "manual" if number % 2 else "topics",
                "member": number % 3 == 0,
                **facts,
            }
            for number in range(count)
        ]


def make_inputs(directory: Path) -> Inputs:
    """Train and save the checkpoints."""
    sentences = list(english_sentences())
    recited = [f"{CANARY} {sentence}"[:200] for sentence in sentences[:RECITED]]
    return Inputs(
        plain=save_tiny_model(directory / "plain"),
        reciting=save_reciting_model(directory / "reciting", recited),
        sentences=sentences,
    )
