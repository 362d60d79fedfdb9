"""The manifest of a finished suite: what was asked for, what came out, and the digest of every file."""

import hashlib
import json
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from workers.suite.corpus import Corpus
from workers.suite.errors import OutputDamaged, OutputOccupied
from workers.suite.plan import Tokens
from workers.suite.planting import Plant
from workers.suite.preparation import Perturbed, Prepared
from workers.suite.sizes import Size
from workers.suite.texts import SuiteText
from workers.suite.variants import Variants

MANIFEST = "manifest.json"
_LIBRARIES = ("numpy", "safetensors", "tokenizers", "torch", "transformers")


def configuration(
    corpus: Corpus, size: Size, seed: int, *, variants: Variants, plant: Plant | None, keep_steps: int | None
) -> dict[str, Any]:
    """What was asked for: a finished suite of the same configuration is not trained again.

    What came after the first release is named only when asked for: suites trained before stay finished.
    """
    asked: dict[str, Any] = {
        "seed": seed,
        "size": {name: value for name, value in asdict(size).items() if name != "lessons" or value},
        "corpus": {"name": corpus.name, "documents": len(corpus.documents), "sha256": corpus.sha256},
        "timing": variants.timing,
        "keep_steps": keep_steps,
    }
    asked |= {name: True for name, on in asdict(variants).items() if on and name != "timing"}
    if plant is not None:
        asked["plant"] = {"name": plant.name, "texts": len(plant.texts), "sha256": plant.sha256}
    return dict(json.loads(json.dumps(asked)))  # duplicate levels become strings, as a file has them


def environment(device: str, threads: int) -> dict[str, Any]:
    """What else decides the bits: the same in two places, and the files are the same there."""
    return {
        "device": device,
        "threads": threads,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def describe_background(prepared: Prepared, sequences: Tokens) -> dict[str, Any]:
    """Token counts of a run's sequences [sequences, context + 1]: both models of a pair share them."""
    total = sequences.size
    return {
        "vocabulary": len(prepared.tokenizer),
        "sequences": sequences.shape[0],
        "sequence_tokens": sequences.shape[1],
        "tokens": total,
        "corpus_tokens": prepared.corpus_tokens,
        "corpus_passes": round(total / prepared.corpus_tokens, 4),
    }


def describe_capabilities(prepared: Prepared) -> dict[str, Any]:
    """How much of a pass over the background teaches tasks, and how many items of each are held out."""
    return {
        "documents": prepared.items,
        "tokens": prepared.item_tokens,
        "share_of_tokens": round(prepared.item_tokens / prepared.corpus_tokens, 6),
        "held_out": dict(Counter(text.group for text in prepared.capabilities)),
    }


def describe_insertions(perturbed: Perturbed) -> dict[str, Any]:
    """How much of the training is insertions, and how many texts there are at each level."""
    return {
        "copies": len(perturbed.insertions),
        "tokens": perturbed.inserted_tokens,
        "share_of_tokens": round(perturbed.inserted_tokens / perturbed.sequences.size, 6),
        "share_of_sequences": round(len(perturbed.insertions) / perturbed.sequences.shape[0], 6),
        "texts": _levels(perturbed.texts),
    }


def write(directory: Path, manifest: Mapping[str, Any]) -> None:
    """Add the digest of every whole file under the directory and write the manifest in one rename."""
    files = {str(path.relative_to(directory)): _sha256(path) for path in _files(directory)}
    partial = directory / f".{MANIFEST}.partial"
    partial.write_text(json.dumps({**manifest, "files": files}, indent=2) + "\n", encoding="utf-8")
    partial.rename(directory / MANIFEST)


def finished(directory: Path, asked: Mapping[str, Any]) -> bool:
    """Whether the directory already holds the whole suite that is asked for.

    Raises:
        OutputOccupied: if it holds a suite of another configuration.
        OutputDamaged: if a file is missing or differs from its digest.
    """
    path = directory / MANIFEST
    if not path.exists():
        return False
    manifest = json.loads(path.read_text(encoding="utf-8"))
    if manifest.get("configuration") != asked:
        raise OutputOccupied(
            f"{directory} holds a suite of another configuration. Choose another --out or delete it."
        )
    for name, digest in manifest["files"].items():
        file = directory / name
        if not file.is_file() or _sha256(file) != digest:
            raise OutputDamaged(f"{file} does not match the manifest. Delete {directory} and train again.")
    return True


def _levels(texts: Iterable[SuiteText]) -> dict[str, dict[str, int]]:
    """Texts by group and duplicate level."""
    counts = Counter((text.group, text.duplicates) for text in texts)
    levels: dict[str, dict[str, int]] = {}
    for (group, duplicates), count in sorted(counts.items()):
        levels.setdefault(group, {})[str(duplicates)] = count
    return levels


def _files(directory: Path) -> list[Path]:
    return sorted(
        path
        for path in directory.rglob("*")
        if path.is_file() and not any(part.endswith(".partial") for part in path.relative_to(directory).parts)
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
