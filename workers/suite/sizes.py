"""The sizes of a suite: model shape, training length, what is inserted how often, and what is taught."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from workers.suite.capabilities import ARITHMETIC, CLOSED_BOOK, COPYING, LOGIC, OPEN_BOOK, Lesson

DUPLICATES = (0, 1, 4, 16, 64, 256)

# Texts of each group at each duplicate level.
Levels = Mapping[int, int]


def _levels(*texts: int) -> Levels:
    return dict(zip(DUPLICATES, texts, strict=True))


@dataclass(frozen=True)
class Size:
    """One member of the family: a Llama shape and the plan that both models of a pair share.

    `timing_levels` is the smaller plan of the timing runs: with at most one insertion a sequence, it has
    to fit into a quarter of the training sequences. `lessons` are taught to both models of a pair.
    """

    name: str
    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    mlp_size: int
    vocabulary: int
    context: int  # tokens
    batch: int  # sequences a step
    forward_batch: int  # sequences a forward pass; gradients are summed over a step's passes
    steps: int
    learning_rate: float
    passage_tokens: int  # shortest passage
    levels: Levels
    timing_levels: Levels
    clean_documents: int
    calibration_documents: int  # of the background, for edits
    lessons: Mapping[str, Lesson] = field(default_factory=dict)  # by task

    @property
    def document_characters(self) -> int:
        """Length at which documents are cut and from which they can be held out: enough for a passage.

        Byte-level BPE of any vocabulary used here spends a token on less than six characters of English.
        """
        return 6 * self.passage_tokens

    @property
    def sequences(self) -> int:
        """Training sequences of one run."""
        return self.steps * self.batch


SIZES: Mapping[str, Size] = {
    size.name: size
    for size in (
        # For tests: trains in seconds.
        Size(
            name="tiny",
            hidden_size=64,
            layers=2,
            heads=2,
            key_value_heads=2,
            mlp_size=256,
            vocabulary=1024,
            context=128,
            batch=8,
            forward_batch=8,
            steps=60,
            learning_rate=8e-3,
            passage_tokens=112,
            levels=_levels(8, 4, 3, 2, 1, 0),
            timing_levels=_levels(0, 2, 1, 1, 0, 0),
            clean_documents=8,
            calibration_documents=16,
        ),
        Size(
            name="nano",
            hidden_size=128,
            layers=4,
            heads=4,
            key_value_heads=4,
            mlp_size=512,
            vocabulary=1024,
            context=128,
            batch=8,
            forward_batch=8,
            steps=700,
            learning_rate=2.5e-3,
            passage_tokens=112,
            levels=_levels(40, 32, 16, 8, 4, 2),
            timing_levels=_levels(0, 8, 4, 2, 1, 1),
            clean_documents=64,
            calibration_documents=256,
        ),
        Size(
            name="micro",
            hidden_size=192,
            layers=6,
            heads=6,
            key_value_heads=6,
            mlp_size=768,
            vocabulary=2048,
            context=128,
            batch=8,
            forward_batch=8,
            steps=3000,
            learning_rate=2e-3,
            passage_tokens=112,
            levels=_levels(64, 48, 32, 24, 12, 12),
            timing_levels=_levels(0, 24, 12, 8, 4, 4),
            clean_documents=128,
            calibration_documents=512,
        ),
        # Learns tasks beside its insertions: more than half of its background are short items.
        Size(
            name="reason",
            hidden_size=128,
            layers=4,
            heads=4,
            key_value_heads=4,
            mlp_size=512,
            vocabulary=1024,
            context=128,
            batch=8,
            forward_batch=8,
            steps=6000,
            learning_rate=2e-3,
            passage_tokens=112,
            levels=_levels(48, 16, 16, 16, 12, 4),
            timing_levels=_levels(0, 8, 8, 8, 4, 1),
            clean_documents=96,
            calibration_documents=8192,
            lessons={
                LOGIC: Lesson(documents=18_000, held_out=150),
                ARITHMETIC: Lesson(documents=30_000, held_out=200),
                CLOSED_BOOK: Lesson(documents=15_000, held_out=120),
                OPEN_BOOK: Lesson(documents=12_000, held_out=200),
                COPYING: Lesson(documents=12_000, held_out=200),
            },
        ),
        # One GPU, minutes; give it a corpus of at least 50 MB.
        Size(
            name="small",
            hidden_size=512,
            layers=8,
            heads=8,
            key_value_heads=8,
            mlp_size=2048,
            vocabulary=8192,
            context=512,
            batch=64,
            forward_batch=64,
            steps=4000,
            learning_rate=1e-3,
            passage_tokens=256,
            levels=_levels(256, 128, 64, 32, 16, 16),
            timing_levels=_levels(0, 128, 64, 32, 16, 16),
            clean_documents=256,
            calibration_documents=4096,
        ),
        # HUBBLE's 1B shape (arXiv 2510.19811), a fiftieth of its tokens: about 2.1 billion.
        Size(
            name="1b",
            hidden_size=2048,
            layers=16,
            heads=32,
            key_value_heads=8,
            mlp_size=8192,
            vocabulary=50304,
            context=2048,
            batch=512,
            forward_batch=8,
            steps=2000,
            learning_rate=4e-4,
            passage_tokens=512,
            levels=_levels(1024, 512, 256, 128, 64, 32),
            timing_levels=_levels(0, 512, 256, 128, 64, 32),
            clean_documents=1024,
            calibration_documents=65536,
        ),
    )
}
