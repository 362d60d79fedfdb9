"""Makes the parts of a log of Inspect with `inspect_ai`'s own classes: a program that reads and writes lines.

It is a process of its own because `inspect_ai` takes seconds to import and a hundred megabytes, which the API
should not carry for one format. Each line of standard input is a JSON array of a kind of part and the facts
of some; each line of standard output is these parts as Inspect writes them, checked by its own contract and
joined by commas.
"""

import sys

from inspect_ai.log import EvalLog, EvalSample
from pydantic import BaseModel
from pydantic_core import from_json

_KINDS: dict[str, type[BaseModel]] = {"log": EvalLog, "sample": EvalSample}


def main() -> None:
    """Answer lines until there are no more."""
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        kind, facts = from_json(line)
        parts = (_KINDS[kind].model_validate(each).model_dump_json(exclude_none=True) for each in facts)
        out.write(",".join(parts).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    main()
