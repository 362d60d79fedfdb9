"""The files that pages load: styles, scripts, the icon. They travel with the package."""

import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Response

from app.errors import NotFound

_DIRECTORY: Final = Path(__file__).parent / "static"
_DIGEST_CHARACTERS: Final = 12
_FOR_EVER: Final = "public, max-age=31536000, immutable"

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Asset:
    """A file as it is sent."""

    content: bytes
    media_type: str
    digest: str


@cache
def _assets() -> dict[str, Asset]:
    return {path.name: _read(path) for path in sorted(_DIRECTORY.iterdir()) if path.is_file()}


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Asset(content, media_type, hashlib.sha256(content).hexdigest()[:_DIGEST_CHARACTERS])


def asset_path(name: str) -> str:
    """Where a file is served. The path names its content, so that browsers keep it for ever."""
    return f"/static/{_assets()[name].digest}/{name}"


@router.get("/static/{digest}/{name}")
async def read_asset(digest: str, name: str) -> Response:
    """A file. A page of another release asks for another content: it gets this one, to be kept by nobody."""
    asset = _assets().get(name)
    if asset is None:
        raise NotFound("There is no such file.")
    headers = {
        "Cache-Control": _FOR_EVER if digest == asset.digest else "no-cache",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(asset.content, headers=headers, media_type=asset.media_type)
