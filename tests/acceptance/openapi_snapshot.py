"""The OpenAPI document as it is checked in. `make openapi` rewrites it, `make contract` compares."""

import json
import sys
from pathlib import Path

from app.main import create_app
from app.settings import Settings

SNAPSHOT = Path(__file__).resolve().parents[2] / "openapi.json"


def render() -> str:
    """The document of the application as it is now."""
    settings = Settings(database_url="postgresql://nowhere", broker_url="redis://nowhere")
    return json.dumps(create_app(settings).openapi(), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
    if arguments != ["--check"]:
        SNAPSHOT.write_text(render())
    elif SNAPSHOT.read_text() != render():
        raise SystemExit("The HTTP contract changed; if on purpose, run `make openapi`.")


if __name__ == "__main__":
    main(sys.argv[1:])
