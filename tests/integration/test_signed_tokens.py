"""Tokens of a real issuer on this machine, in place of API keys: what they stand for, and what is refused."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fastapi import FastAPI
from jwt.algorithms import get_default_algorithms
from pydantic import ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, sessionmaker

from app.http import issuer_keys
from app.settings import OIDC, Settings
from app.store.core.identifiers import Prefix, format_id
from app.store.tenants import Tenant
from app.store.trail import chain_entries, list_entries
from tests.http_api import client_of, make_key, running_app

AUDIENCE = "memaudit"
WRONG_KEYS = 3
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
UNPUBLISHED = ec.generate_private_key(ec.SECP256R1())
SECRET = b"shared-secret-of-32-bytes-length"


def published(algorithm: str) -> dict[str, Any]:
    public = KEYS[algorithm].public_key()
    return {
        **get_default_algorithms()[algorithm].to_jwk(public, as_dict=True),
        "kid": algorithm,
        "use": "sig",
    }


@dataclass
class Issuer:
    """An issuer that publishes its keys, and counts how often it is asked for them."""

    url: str
    keys: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    status: int = 200
    drips: bool = False

    def token(self, algorithm: str = "ES256", headers: dict[str, Any] | None = None, **claims: Any) -> str:
        now = int(time.time())
        payload = {"iss": self.url, "aud": AUDIENCE, "sub": "user-7", "iat": now, "exp": now + 300}
        payload |= {"tenant": "acme", "scope": "openid audit:read", **claims}
        payload = {name: value for name, value in payload.items() if value is not None}
        named = {"kid": algorithm} if headers is None else headers
        return jwt.encode(payload, KEYS[algorithm], algorithm, headers=named)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.asked += 1
            self.send_response(made.status)
            self.end_headers()
            for _ in range(50 * made.drips):
                self.wfile.write(b" ")
                time.sleep(0.1)
            self.wfile.write(json.dumps({"keys": made.keys}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made = Issuer(f"http://127.0.0.1:{server.server_port}")
        shared = {"kty": "oct", "kid": "shared", "k": jwt.utils.base64url_encode(SECRET).decode()}
        none = published("ES256") | {"alg": "none", "kid": "none"}
        made.keys = [*map(published, KEYS), shared, none, {"kty": "unknown", "kid": "odd"}, {"kty": "EC"}]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@pytest.fixture
def settings(database_url: str, broker_url: str, issuer: Issuer) -> Settings:
    oidc = OIDC(issuer=issuer.url, audience=AUDIENCE, jwks_url=f"{issuer.url}/keys", leeway_seconds=10)
    return Settings(
        database_url=database_url, broker_url=broker_url, oidc=oidc, wrong_keys_a_minute=WRONG_KEYS
    )


@pytest.fixture
async def service(app: FastAPI, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key, of a service whose tenant `acme` has texts."""
    async with client_of(app, make_key(settings)) as owner:
        body = {"name": "texts", "texts": [{"text": "a"}]}
        assert (await owner.post("/v1/text-sets", json=body)).status_code == 201
    async with client_of(app) as client:
        yield client


async def ask(client: httpx.AsyncClient, token: str, path: str = "/v1/text-sets") -> httpx.Response:
    return await client.get(path, headers={b"Authorization": f"Bearer {token}".encode()})


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_stands_for_its_tenant_and_its_scopes(
    service: httpx.AsyncClient, issuer: Issuer, algorithm: str
) -> None:
    answer = await ask(service, issuer.token(algorithm))
    assert (answer.status_code, len(answer.json()["data"])) == (200, 1)
    assert (await ask(service, issuer.token(algorithm), "/v1/edits")).status_code == 403
    assert (await ask(service, issuer.token(algorithm, scope=["edit:read"]), "/v1/edits")).status_code == 200
    assert (await ask(service, issuer.token(algorithm, scope=None))).status_code == 403
    listed = await ask(service, issuer.token(algorithm, aud=["another", AUDIENCE]))
    assert listed.status_code == 200


async def test_what_a_token_does_is_in_the_trail_by_its_subject(
    service: httpx.AsyncClient, issuer: Issuer, sessions: sessionmaker[Session]
) -> None:
    token = issuer.token(scope="audit:write")
    headers = {"Authorization": f"Bearer {token}"}
    made = await service.post("/v1/text-sets", json={"name": "n", "texts": [{"text": "b"}]}, headers=headers)
    assert made.status_code == 201
    actors: dict[str | None, str] = {}
    async with asyncio.timeout(30):
        # The service chains entries too, and only one does at a time.
        while made.json()["id"] not in actors:
            await asyncio.sleep(0.01)
            with sessions.begin() as session:
                chain_entries(session, 1000)
                actors = {entry.subject: entry.actor for entry in list_entries(session, after=0, limit=100)}
    assert actors[made.json()["id"]] == "oidc:user-7"


def unsigned(issuer: Issuer) -> str:
    payload = jwt.decode(issuer.token(), options={"verify_signature": False})
    return jwt.encode(payload, None, "none", headers={"kid": "ES256"})


def confused(issuer: Issuer) -> str:
    """Signed with the public key as if it were a shared secret; by hand, as no library makes it."""
    pem = KEYS["RS256"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    header = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "RS256"}).encode())
    payload = issuer.token().encode().split(b".")[1]
    signed = header + b"." + payload
    signature = get_default_algorithms()["HS256"]
    made = jwt.utils.base64url_encode(signature.sign(signed, pem))  # type: ignore[arg-type]
    return (signed + b"." + made).decode()


def shared(issuer: Issuer) -> str:
    """Signed with a secret that the issuer publishes."""
    payload = jwt.decode(issuer.token(), options={"verify_signature": False})
    return jwt.encode(payload, SECRET, "HS256", headers={"kid": "shared"})


def unpublished(issuer: Issuer) -> str:
    payload = jwt.decode(issuer.token(), options={"verify_signature": False})
    return jwt.encode(payload, UNPUBLISHED, "ES256", headers={"kid": "ES256"})


def spliced(issuer: Issuer) -> str:
    """The claims of one token under the signature of another."""
    ours, theirs = issuer.token().split("."), issuer.token(sub="admin", scope="admin").split(".")
    return ".".join([ours[0], theirs[1], ours[2]])


CRITICAL = {"kid": "ES256", "crit": ["b64"], "b64": True}
REFUSED: dict[str, Callable[[Issuer], str]] = {
    "alg none": unsigned,
    "HS256 with the public key": confused,
    "HS256 with a published secret": shared,
    "of a key that is not published": unpublished,
    "spliced": spliced,
    "for another audience": lambda issuer: issuer.token(aud="another"),
    "without an audience": lambda issuer: issuer.token(aud=None),
    "of another issuer": lambda issuer: issuer.token(iss="https://elsewhere"),
    "without an issuer": lambda issuer: issuer.token(iss=None),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 11),
    "without an end": lambda issuer: issuer.token(exp=None),
    "not yet": lambda issuer: issuer.token(nbf=int(time.time()) + 60),
    "of the future": lambda issuer: issuer.token(iat=int(time.time()) + 60),
    "without a time": lambda issuer: issuer.token(iat=None),
    "without a subject": lambda issuer: issuer.token(sub=None),
    "with a subject for no log": lambda issuer: issuer.token(sub="a\nb"),
    "with a long subject": lambda issuer: issuer.token(sub="a" * 256),
    "without a tenant": lambda issuer: issuer.token(tenant=None),
    "of no tenant": lambda issuer: issuer.token(tenant="nobody"),
    "of a list of tenants": lambda issuer: issuer.token(tenant=["acme"]),
    "of a tenant that no table holds": lambda issuer: issuer.token(tenant="acme\0"),
    "of a tenant that is no text": lambda issuer: issuer.token(tenant="\ud800"),
    "with another algorithm's key": lambda issuer: issuer.token("ES256", {"kid": "RS256"}),
    "without a key's id": lambda issuer: issuer.token("ES256", {}),
    "with something critical": lambda issuer: issuer.token(headers=CRITICAL),
    "too long": lambda issuer: issuer.token(more="x" * 9000),
    "no token": lambda _: "a.b.c",
    "no base64": lambda _: "é.é.é",
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
async def test_every_other_token_is_refused(
    service: httpx.AsyncClient, issuer: Issuer, subtests: pytest.Subtests, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, make in REFUSED.items():
        with subtests.test(refused=name):
            token = make(issuer)
            answer = await ask(service, token)
            assert answer.status_code == 401, answer.text
            assert answer.json()["type"].endswith("/unauthorized")
            assert token not in answer.text
            assert token not in capfd.readouterr().out
    # Nobody is locked out by others behind the same address. Within the leeway a clock may be wrong.
    assert (await ask(service, issuer.token(exp=int(time.time()) - 5))).status_code == 200


async def test_a_storm_of_unknown_keys_asks_the_issuer_once(
    service: httpx.AsyncClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        assert (await ask(service, issuer.token("ES256", {"kid": f"unknown-{number}"}))).status_code == 401
    assert issuer.asked == 1
    assert (await ask(service, issuer.token())).status_code == 200
    assert issuer.asked == 1
    # A key that was made since is found once the pause is over.
    issuer.keys.append(published("ES256") | {"kid": "new"})
    assert (await ask(service, issuer.token("ES256", {"kid": "new"}))).status_code == 401
    monkeypatch.setattr(issuer_keys, "PAUSE_SECONDS", 0.0)
    assert (await ask(service, issuer.token("ES256", {"kid": "new"}, sub="again"))).status_code == 200
    assert issuer.asked == 2


async def test_known_keys_outlast_an_issuer_that_is_away_for_a_while(
    service: httpx.AsyncClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "PAUSE_SECONDS", 0.0)
    assert (await ask(service, issuer.token())).status_code == 200
    issuer.status = 503
    monkeypatch.setattr(issuer_keys, "_FRESH_SECONDS", -1.0)
    assert (await ask(service, issuer.token(sub="1"))).status_code == 200
    monkeypatch.setattr(issuer_keys, "_GOOD_SECONDS", -1.0)
    assert (await ask(service, issuer.token(sub="2"))).status_code == 401
    assert issuer.asked > 1


async def test_an_issuer_that_drips_is_not_waited_for(
    service: httpx.AsyncClient, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuer_keys, "_TIMEOUT_SECONDS", 0.3)
    issuer.drips = True
    began = time.monotonic()
    assert (await ask(service, issuer.token())).status_code == 401
    assert time.monotonic() - began < 4
    issuer.drips = False


async def test_claims_are_mapped_to_tenants_and_scopes(
    database_url: str, broker_url: str, issuer: Issuer
) -> None:
    oidc = OIDC(
        issuer=issuer.url,
        audience=AUDIENCE,
        jwks_url=f"{issuer.url}/keys",
        tenant_claim="org",
        tenants={"org-1": "acme"},
        scopes_claim="groups",
        scopes={"auditors": ["audit:read", "edit:read"]},
    )
    settings = Settings(database_url=database_url, broker_url=broker_url, oidc=oidc)
    make_key(settings)
    async with running_app(settings) as app, client_of(app) as client:
        given = {"tenant": None, "scope": "admin"}
        for path in ("/v1/audits", "/v1/edits"):
            token = issuer.token(org="org-1", groups=["auditors", "others", 7], **given)
            assert (await ask(client, token, path)).status_code == 200
        # A name of a tenant or of a scope is none where others stand for them.
        assert (await ask(client, issuer.token(org="acme", groups=["auditors"], **given))).status_code == 401
        assert (await ask(client, issuer.token(org="org-1", groups=["admin"], **given))).status_code == 403
    wrong = settings.model_copy(update={"oidc": oidc.model_copy(update={"scopes": {"x": ["audit:all"]}})})
    with pytest.raises(ValueError, match="audit:all"):
        async with running_app(wrong):
            pass


async def test_a_token_for_the_id_of_a_tenant_is_for_no_other_of_its_name(
    settings: Settings, issuer: Issuer, sessions: sessionmaker[Session]
) -> None:
    make_key(settings)
    with sessions.begin() as session:
        tenant = session.scalars(select(Tenant)).one()
        tenant_id, tenant.name = format_id(Prefix.TENANT, tenant.id), "renamed"
    make_key(settings)  # of a new tenant of the old name
    assert settings.oidc is not None
    oidc = settings.oidc.model_copy(update={"tenants": {"by-id": tenant_id, "by-name": "acme"}})
    settings = settings.model_copy(update={"oidc": oidc})
    async with running_app(settings) as app, client_of(app) as client:
        for claim, name in (("by-id", "renamed"), ("by-name", "acme")):
            token = issuer.token(tenant=claim, scope="keys:write")
            (asked,) = (await ask(client, token, "/v1/tenants")).json()["data"]
            assert (asked["name"], asked["id"] == tenant_id) == (name, claim == "by-id")
        with sessions.begin() as session:
            session.execute(update(Tenant).values(disabled_at=func.now()))
        assert (await ask(client, issuer.token(tenant="by-id"))).status_code == 401


async def test_without_an_issuer_a_token_is_no_key(
    database_url: str, broker_url: str, issuer: Issuer
) -> None:
    settings = Settings(database_url=database_url, broker_url=broker_url)
    make_key(settings)
    async with running_app(settings) as app, client_of(app) as client:
        assert (await ask(client, issuer.token())).status_code == 401
    assert issuer.asked == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"jwks_url": "http://issuer.example/keys"},
        {"jwks_url": "file:///etc/passwd"},
        {"issuer": "http://issuer.example"},
        {"algorithms": ["HS256"]},
        {"algorithms": ["none"]},
        {"algorithms": []},
        {"audience": ""},
        {"leeway_seconds": 3000},
        {"tenants_claim": "typo"},
    ],
)
def test_settings_that_would_let_anybody_in_are_refused(wrong: dict[str, Any]) -> None:
    right = {"issuer": "https://issuer", "audience": "us", "jwks_url": "https://issuer/keys"}
    OIDC.model_validate(right)
    with pytest.raises(ValidationError):
        OIDC.model_validate(right | wrong)
