"""`python -m tests.client_build [--check]`: write the generated modules of the client, or compare them."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import unasync

from tests.client_build.rendering import Style, dictionaries, models
from tests.client_build.schemas import client_names, read_contract

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "memaudit"
_NOTICE: Final = "Generated from openapi.json by `make client-types`."
_MODELS: Final = f'''"""What the service answers, as pydantic models. {_NOTICE}

Fields and values that a newer service adds are kept: see `memaudit.base.Answer`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from memaudit.base import Answer


class Work(Answer):
    """What is prepared or worked on for a while after it was asked for, and then ends."""

    id: str

    status: str

    error: Problem | None = None


'''
_BODIES: Final = f'''"""What the service is sent, as typed dictionaries. {_NOTICE}"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypeAlias, TypedDict


'''
# The asynchronous client is written by hand; the synchronous one is it without waiting.
_WORDS: Final = {
    "asynchronous": "synchronous",
    "AsyncClient": "Client",
    "AsyncBaseTransport": "BaseTransport",
    "AsyncIterator": "Iterator",
    "AsyncIterable": "Iterable",
    "asynccontextmanager": "contextmanager",
    "aclose": "close",
    "aread": "read",
    "aiter_bytes": "iter_bytes",
}


def render(directory: Path) -> None:
    """Write all generated modules into a directory laid out as the package is."""
    contract = read_contract(json.loads((ROOT / "openapi.json").read_text()))
    names = client_names(contract.schemas)
    answers = {name: contract.schemas[name] for name in contract.answers if not name.startswith("Page_")}
    bodies = {name: contract.schemas[name] for name in contract.bodies} | contract.filters
    received = models(answers, Style(names, open=True, array="list"))
    sent = dictionaries(
        bodies, Style(names | {name: name for name in contract.filters}, open=False, array="Sequence")
    )
    (directory / "types.py").write_text(_MODELS + "\n\n".join(received))
    (directory / "requests.py").write_text(_BODIES + "\n\n".join(sent))
    written = PACKAGE / "asynchronous"
    target = directory / "synchronous"
    target.mkdir(exist_ok=True)
    rule = unasync.Rule(f"{written}/", f"{target}/", additional_replacements=_WORDS)
    sources = sorted(path for path in written.glob("*.py") if path.name != "blocking.py")
    unasync.unasync_files([str(path) for path in sources], [rule])
    _tidy(directory)


def _tidy(directory: Path) -> None:
    """Order imports and format, by the rules of this repository wherever the directory is."""
    for command in (["check", "--quiet", "--select", "I,F401", "--fix"], ["format", "--quiet"]):
        subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--config", ROOT / "pyproject.toml", directory],
            check=True,
        )


def main(arguments: list[str]) -> None:
    if arguments != ["--check"]:
        render(PACKAGE)
        return
    with tempfile.TemporaryDirectory() as made:
        render(Path(made))
        old = [path.relative_to(made) for path in Path(made).rglob("*.py") if _differs(path, Path(made))]
    if old:
        raise SystemExit(f"Run `make client-types`: {', '.join(map(str, old))} is not what it writes.")


def _differs(made: Path, directory: Path) -> bool:
    present = PACKAGE / made.relative_to(directory)
    return not present.exists() or present.read_bytes() != made.read_bytes()


if __name__ == "__main__":
    main(sys.argv[1:])
