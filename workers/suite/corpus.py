"""The background corpus: real text found on every machine, or the user's own.

The default corpus is the standard library's docstrings, read from its sources without importing them, and
the language reference in `pydoc_data.topics`. Test packages are left out: many distributions strip them.
"""

import ast
import hashlib
import platform
import re
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workers.suite.errors import CorpusTooSmall, CorpusUnreadable

# Two documents overlap when they share a run of this many words.
OVERLAP_WORDS = 13

_SKIPPED_DIRECTORIES = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_TOPICS = Path("pydoc_data", "topics.py")


@dataclass(frozen=True)
class Corpus:
    """A background corpus: what identifies it in a manifest, and its documents in a fixed order."""

    name: str
    documents: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Digest of every document, in order."""
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(document.encode())
            digest.update(b"\0")
        return digest.hexdigest()


def read_corpus(path: Path | None, document_characters: int) -> Corpus:
    """Read a text file or every file under a directory; without a path, the standard library.

    Texts are cut into documents by `split_document`; of equal documents the first is kept.

    Raises:
        CorpusUnreadable: if the path does not exist, or a file is not UTF-8 text, or there is no text.
    """
    if path is None:
        name, texts = f"standard library of Python {platform.python_version()}", _standard_library()
    else:
        name, texts = path.name, _files(path)
    documents = tuple(
        dict.fromkeys(piece for text in texts for piece in split_document(text, document_characters))
    )
    if not documents:
        raise CorpusUnreadable("The corpus holds no text. Give a text file or a directory of text files.")
    return Corpus(name, documents)


def split_document(text: str, document_characters: int) -> Iterator[str]:
    """Cut a text between paragraphs into documents of at least `document_characters` characters.

    The last one may be shorter. Trailing blanks are dropped; indentation is kept.
    """
    paragraphs: list[str] = []
    length = 0
    for paragraph in re.split(r"\n\s*\n", text):
        if not paragraph.strip():
            continue
        paragraphs.append(re.sub(r"[ \t]+$", "", paragraph.strip("\n"), flags=re.MULTILINE))
        length += len(paragraphs[-1])
        if length >= document_characters:
            yield "\n\n".join(paragraphs)
            paragraphs, length = [], 0
    if paragraphs:
        yield "\n\n".join(paragraphs)


def word_runs(text: str) -> set[tuple[str, ...]]:
    """Every run of `OVERLAP_WORDS` consecutive words, lower-cased; blanks separate words."""
    words = text.lower().split()
    return {tuple(words[i : i + OVERLAP_WORDS]) for i in range(len(words) - OVERLAP_WORDS + 1)}


def hold_out(shuffled: Iterable[str], count: int, least_characters: int) -> list[str]:
    """Take the first `count` documents that are long enough and overlap with none taken before.

    Raises:
        CorpusTooSmall: if there are fewer.
    """
    taken: list[str] = []
    seen: set[tuple[str, ...]] = set()
    for document in shuffled:
        if len(taken) == count:
            break
        if len(document) < least_characters:
            continue
        runs = word_runs(document)
        if runs and seen.isdisjoint(runs):
            taken.append(document)
            seen |= runs
    if len(taken) < count:
        raise CorpusTooSmall(
            f"The corpus has {len(taken)} documents of {least_characters} characters or more to hold out; "
            f"{count} are needed. Give a larger corpus with --corpus, or train a smaller size."
        )
    return taken


def decontaminate(documents: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """The documents that share no run of `OVERLAP_WORDS` words with any held-out text.

    Of a text with fewer words, such as a planted code, all of it counts as one.
    """
    texts = list(held_out)
    runs = {run for text in texts for run in word_runs(text)}
    short = [" ".join(words) for text in texts if len(words := text.lower().split()) < OVERLAP_WORDS]
    return [
        document
        for document in documents
        if runs.isdisjoint(word_runs(document))
        and not (short and _holds_any(" ".join(document.lower().split()), short))
    ]


def _holds_any(document: str, texts: Iterable[str]) -> bool:
    return any(text in document for text in texts)


def _files(path: Path) -> Iterator[str]:
    """The text of a file, or of every file under a directory, in the order of their names."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        try:
            text = file.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError) as error:
            raise CorpusUnreadable(f"{file} cannot be read as UTF-8 text.") from error
        if "\0" in text:
            raise CorpusUnreadable(f"{file} holds NUL characters, so it is not text.")
        yield text


def _standard_library() -> Iterator[str]:
    """One text a module: its docstrings in the order of the source; the topics one by one."""
    root = Path(sysconfig.get_path("stdlib"))
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        if _SKIPPED_DIRECTORIES.isdisjoint(relative.parts):
            tree = ast.parse(file.read_bytes())
            if relative == _TOPICS:
                yield from _topics(tree)
            else:
                yield "\n\n".join(_docstrings(tree))


def _docstrings(node: ast.AST) -> Iterator[str]:
    """The docstrings of a module's classes and functions, without those inside functions."""
    if not isinstance(node, _DOCUMENTED):
        return
    docstring = ast.get_docstring(node)
    if docstring:
        yield docstring
    if isinstance(node, ast.Module | ast.ClassDef):
        for child in node.body:
            yield from _docstrings(child)


def _topics(tree: ast.Module) -> Iterator[str]:
    """The texts of the `topics` dictionary, in the order of the source."""
    for statement in tree.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            for value in statement.value.values:
                yield ast.literal_eval(value)
