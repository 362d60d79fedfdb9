"""How much decoding costs beside a pass over whole texts."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from app.contracts.audits import AuditOptions

# A token that is decoded waits for the one before it: on one core, of a model of 4 million parameters, it
# took as long as 4.3 tokens of a pass over whole texts (3.7 to 5.1 for texts of 30 to 800 tokens).
PASSES_PER_DECODED_TOKEN: Final = 4


def suffix_tokens(options: "AuditOptions", texts: int, tokens: float) -> float:
    """Tokens of the suffixes of texts of equal length; of short ones the split is scaled."""
    asked = options.suffix_tokens / (options.prefix_tokens + options.suffix_tokens)
    return min(float(texts * options.suffix_tokens), asked * tokens)
