"""The OpenAPI document as it is checked in. `make openapi` rewrites it."""

import json
from pathlib import Path

from app.main import create_app
from app.settings import Settings

SNAPSHOT = Path(__file__).resolve().parents[2] / "openapi.json"


def render() -> str:
    """The document of the application as it is now."""
    settings = Settings(database_url="postgresql://nowhere", broker_url="redis://nowhere")
    return json.dumps(create_app(settings).openapi(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(render())
