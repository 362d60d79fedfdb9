"""The API key of whoever starts the embedded service, kept in a file that only they can read."""

from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from app.private_files import write_private
from app.settings import Settings
from app.store.api_keys import APIKey, create_key, find_principal, revoke_keys_of_name
from app.store.core.identifiers import Prefix, format_id
from app.store.core.sessions import sync_engine, sync_sessions
from app.store.trail import SERVICE, Action, Fact, ensure_tenant_by, record

_TENANT: Final = "default"
_NAME: Final = "embedded owner"
_SCOPES: Final = ["admin"]


def ensure_owner_key(settings: Settings) -> Path:
    """The file with a key that the service knows; a new one is made when there is none.

    Keys made for the owner before are revoked then: their file is gone, or was never written.
    """
    path = settings.api_key_path
    engine = sync_engine(settings.require_database_url())
    try:
        with sync_sessions(engine).begin() as session:
            if path.exists() and find_principal(session, path.read_text().strip()):
                return path
            key = _make_key(session)
    finally:
        engine.dispose()
    write_private(path, key + "\n")
    return path


def _make_key(session: Session) -> str:
    tenant_id = ensure_tenant_by(session, _TENANT, actor=SERVICE)
    # One that was made but not written is not to stand in the way.
    for lost in revoke_keys_of_name(session, tenant_id, _NAME):
        _record(session, Action.KEY_REVOKED, lost)
    row, key = create_key(session, tenant_id, name=_NAME, scopes=_SCOPES)
    _record(session, Action.KEY_CREATED, row, {"scopes": _SCOPES})
    return key


def _record(session: Session, action: Action, key: APIKey, facts: dict[str, Fact] | None = None) -> None:
    subject = format_id(Prefix.API_KEY, key.id)
    record(session, tenant_id=key.tenant_id, actor=SERVICE, action=action, subject=subject, facts=facts)
