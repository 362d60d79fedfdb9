"""The API key of whoever starts the embedded service, kept in a file that only they can read."""

from pathlib import Path
from typing import Final

from app.private_files import write_private
from app.settings import Settings
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.tenants import create_key, find_principal

_TENANT: Final = "default"
_NAME: Final = "embedded owner"
_SCOPES: Final = ["admin"]


def ensure_owner_key(settings: Settings) -> Path:
    """The file with a key that the service knows; a new one is made when there is none.

    A key that was made but not written, because we were killed in between, stays unused.
    """
    path = settings.api_key_path
    engine = sync_engine(settings.require_database_url())
    try:
        with sync_sessions(engine).begin() as session:
            if path.exists() and find_principal(session, path.read_text().strip()):
                return path
            _, key = create_key(session, tenant=_TENANT, name=_NAME, scopes=_SCOPES)
    finally:
        engine.dispose()
    write_private(path, key + "\n")
    return path
