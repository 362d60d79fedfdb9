"""What seals texts and secrets: boxes that open in their place only, keys that wrap keys, files on disk."""

import base64
import hashlib
import hmac
import io
import json
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from app.errors import KeyUnavailable, SealBroken
from app.intake.formats import read_parquet
from app.sealing import keyring as keyring_module
from app.sealing.boxes import OVERHEAD_BYTES, Sealer, derive_key, new_key
from app.sealing.keyring import Keyring, Wrapped
from app.sealing.master_keys import MasterKey, ensure_master_key, make_master_key
from app.sealing.spool import BLOCK_BYTES, Spool, spooled
from app.sealing.texts import TextSetSealer
from app.settings import Settings
from app.store.token_evidence import Evidence

KEY = bytes(range(32))
ONE, OTHER = UUID(int=1), UUID(int=2)
CANARY = b"zyzzyva-canary-text"

KMS = '''
"""A key management service of one file: it knows two keys, of which the first wraps."""
import base64, json, os, pathlib, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

keys = json.loads(pathlib.Path(sys.argv[1]).read_text())
question = json.loads(sys.stdin.read())
if question["operation"] == "wrap":
    key_id, nonce = next(iter(keys)), os.urandom(12)
    box = AESGCM(bytes.fromhex(keys[key_id])).encrypt(nonce, base64.b64decode(question["key"]), None)
    print(json.dumps({"key_id": key_id, "wrapped": base64.b64encode(nonce + box).decode()}))
else:
    if question["key_id"] not in keys:
        sys.exit(3)
    box = base64.b64decode(question["wrapped"])
    key = AESGCM(bytes.fromhex(keys[question["key_id"]])).decrypt(box[:12], box[12:], None)
    print(json.dumps({"key": base64.b64encode(key).decode()}))
'''


def test_a_box_is_aes_256_gcm_as_another_implementation_has_it() -> None:
    """Oracle: the streaming interface of OpenSSL's GCM, which checks the tag apart."""
    box = Sealer(KEY).seal(b"a text", b"a place")
    assert len(box) == len(b"a text") + OVERHEAD_BYTES
    nonce, ciphertext, tag = box[:12], box[12:-16], box[-16:]
    decryptor = Cipher(algorithms.AES(KEY), modes.GCM(nonce, tag)).decryptor()
    decryptor.authenticate_additional_data(b"a place")
    assert decryptor.update(ciphertext) + decryptor.finalize() == b"a text"


def test_keys_are_derived_as_rfc_5869_says() -> None:
    """Oracle: one round of HKDF-Expand by the standard library."""
    assert derive_key(KEY, b"purpose") == hmac.digest(KEY, b"purpose\x01", hashlib.sha256)


def test_no_changed_byte_and_no_other_place_opens_a_box() -> None:
    sealer = TextSetSealer(KEY, ONE)
    box = sealer.seal(CANARY, 7, "text")
    assert sealer.open(box, 7, "text") == CANARY
    assert CANARY not in box
    assert sealer.seal(CANARY, 7, "text") != box
    changed = [bytes(box[:at]) + bytes([box[at] ^ 1]) + box[at + 1 :] for at in range(len(box))]
    wrong = [
        *((sealer, each, 7, "text") for each in (*changed, box[:-1], box[:20], b"")),
        (sealer, box, 8, "text"),
        (sealer, box, 7, "choices"),
        (TextSetSealer(KEY, OTHER), box, 7, "text"),
        (TextSetSealer(new_key(), ONE), box, 7, "text"),
    ]
    for opener, given, ordinal, column in wrong:
        with pytest.raises(SealBroken):
            opener.open(given, ordinal, column)


def test_evidence_opens_under_its_audit_only() -> None:
    sealer = TextSetSealer(KEY, ONE)
    box = sealer.of_audit(ONE).seal(CANARY, 7)
    assert sealer.of_audit(ONE).open(box, 7) == CANARY
    for opener, ordinal in ((sealer.of_audit(OTHER), 7), (sealer.of_audit(ONE), 8)):
        with pytest.raises(SealBroken):
            opener.open(box, ordinal)


@pytest.mark.parametrize("tokens", [0, 1, 3])
@pytest.mark.parametrize("optional", [(), ("means", "deviations"), ("sampling_log_likelihoods",)])
def test_evidence_is_unpacked_as_it_was_packed(tokens: int, optional: tuple[str, ...]) -> None:
    names = ("token_ids", "log_likelihoods", "ranks", *optional)
    arrays = {name: os.urandom(4 * tokens) for name in names} | {"spans": os.urandom(8 * tokens)}
    evidence = Evidence(ordinal=5, **arrays)
    assert Evidence.unpack(5, evidence.pack()) == evidence
    with pytest.raises(SealBroken):
        Evidence.unpack(5, evidence.pack() + b"\0")


def settings_with(**given: object) -> Settings:
    return Settings(**{"master_key": None, "key_command": None} | given)


def test_the_newest_key_of_a_directory_wraps_and_older_ones_open(tmp_path: Path) -> None:
    keyring = Keyring(settings_with(master_keys=tmp_path / "keys"))
    with pytest.raises(KeyUnavailable, match="MEMAUDIT_MASTER_KEYS"):
        keyring.wrap(b"secret", b"place")
    ensure_master_key(tmp_path / "keys")
    ensure_master_key(tmp_path / "keys")
    (path,) = (tmp_path / "keys").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    before = keyring.wrap(b"secret", b"place")
    assert before.key_id == MasterKey.of(base64.b64decode(path.read_text())).key_id

    # A process that runs sees the key that another one made.
    path.rename(path.with_name("20250101T000000Z.key"))
    newest = make_master_key(tmp_path / "keys")
    after = keyring.wrap(b"secret", b"place")
    assert (after.key_id, after.key_id != before.key_id) == (newest.key_id, True)
    for wrapped in (before, after):
        assert keyring.unwrap(wrapped.write(), b"place") == b"secret"
        with pytest.raises(SealBroken):
            keyring.unwrap(wrapped.write(), b"another place")

    path.with_name("20250101T000000Z.key").unlink()
    fresh = Keyring(settings_with(master_keys=tmp_path / "keys"))
    assert fresh.unwrap(after.write(), b"place") == b"secret"
    with pytest.raises(KeyUnavailable, match=before.key_id):
        fresh.unwrap(before.write(), b"place")


def test_the_first_key_of_a_setting_wraps_and_the_others_open() -> None:
    old, new = (base64.b64encode(new_key()).decode() for _ in range(2))
    before = Keyring(settings_with(master_key=old)).wrap(b"secret", b"place")
    keyring = Keyring(settings_with(master_key=f"{new},{old}"))
    assert keyring.unwrap(before.write(), b"place") == b"secret"
    assert keyring.wrap(b"secret", b"place").key_id != before.key_id
    assert not keyring.makes_keys()


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "ä" * 44])
def test_what_is_no_key_is_refused_by_name_and_not_quoted(text: str, tmp_path: Path) -> None:
    with pytest.raises(KeyUnavailable, match="32 bytes in base64") as refused:
        Keyring(settings_with(master_key=text))
    (tmp_path / "20260101T000000Z.key").write_text(text)
    with pytest.raises(KeyUnavailable, match=r"20260101T000000Z\.key") as refused_too:
        Keyring(settings_with(master_keys=tmp_path)).require()
    assert not text or text not in refused.value.detail + refused_too.value.detail


@pytest.mark.parametrize("stored", [b"", b"\x01", b"\x02\x01a", b"\x01\x10short"])
def test_what_is_not_wrapped_is_not_opened(stored: bytes, tmp_path: Path) -> None:
    ensure_master_key(tmp_path)
    with pytest.raises((SealBroken, KeyUnavailable)):
        Keyring(settings_with(master_keys=tmp_path)).unwrap(stored, b"place")


@pytest.fixture
def kms(tmp_path: Path) -> Path:
    """The file with the keys of a small service; `command_of` is the program that asks it."""
    (tmp_path / "kms.py").write_text(KMS)
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"alias/old": new_key().hex()}))
    return keys


def command_of(keys: Path) -> str:
    return f"'{sys.executable}' '{keys.with_name('kms.py')}' '{keys}'"


def test_a_program_wraps_and_unwraps(kms: Path) -> None:
    keyring = Keyring(settings_with(key_command=command_of(kms)))
    wrapped = keyring.wrap(b"secret", b"place")
    assert wrapped.key_id == "command:alias/old"
    assert Wrapped.read(wrapped.write()) == wrapped
    assert keyring.unwrap(wrapped.write(), b"place") == b"secret"
    with pytest.raises(SealBroken):
        keyring.unwrap(wrapped.write(), b"another place")

    # The service rotates: what it wrapped with the old key opens still.
    kms.write_text(json.dumps({"alias/new": new_key().hex()} | json.loads(kms.read_text())))
    fresh = Keyring(settings_with(key_command=command_of(kms)))
    assert fresh.wraps_with() == "command:alias/new"
    assert fresh.unwrap(wrapped.write(), b"place") == b"secret"


def test_a_program_that_gives_no_key_is_named(kms: Path, tmp_path: Path) -> None:
    wrapped = Keyring(settings_with(key_command=command_of(kms))).wrap(b"secret", b"place").write()
    kms.write_text("{}")
    for command, why in (
        (command_of(kms), "exited with 3"),
        (str(tmp_path / "missing"), "cannot be run"),
        ("true", "no JSON"),
    ):
        with pytest.raises(KeyUnavailable, match=why):
            Keyring(settings_with(key_command=command)).unwrap(wrapped, b"place")
    with pytest.raises(KeyUnavailable, match="MEMAUDIT_KEY_COMMAND is not set"):
        Keyring(settings_with(master_keys=tmp_path)).unwrap(wrapped, b"place")


@pytest.fixture
def counted(tmp_path: Path) -> Path:
    """A program that waits for a file `open` and then gives a key, or none; each run adds to its count."""
    program, key = tmp_path / "counted", base64.b64encode(len(b"place").to_bytes(2) + b"placesecret").decode()
    program.write_text(
        f"""#!/bin/sh
echo >> '{tmp_path}/runs'
while [ ! -e '{tmp_path}/open' ]; do sleep 0.02; done
[ -e '{tmp_path}/fails' ] && exit 3
echo '{{"key": "{key}"}}'
"""
    )
    program.chmod(0o755)
    return program


WRAPPED = Wrapped("command:k", b"box").write()


def runs(program: Path) -> int:
    return len(program.with_name("runs").read_bytes())


def test_of_many_who_need_a_key_at_once_one_asks_the_program(counted: Path) -> None:
    keyring = Keyring(settings_with(key_command=str(counted)))
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(keyring.unwrap, WRAPPED, b"place") for _ in range(8)]
        counted.with_name("open").touch()
        assert {each.result() for each in asked} == {b"secret"}
    assert runs(counted) == 1


def test_a_program_that_hangs_is_waited_for_by_one_alone(
    counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyring_module, "_PATIENCE_SECONDS", 0.05)
    keyring = Keyring(settings_with(key_command=str(counted)))
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(keyring.unwrap, WRAPPED, b"place")
        while not counted.with_name("runs").exists():
            time.sleep(0.01)
        with pytest.raises(KeyUnavailable, match="not answered yet"):
            keyring.unwrap(WRAPPED, b"place")
        counted.with_name("open").touch()
        assert first.result() == keyring.unwrap(WRAPPED, b"place") == b"secret"
    assert runs(counted) == 1


def test_a_program_that_gave_no_key_is_left_in_peace_for_a_while(
    counted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted.with_name("open").touch()
    counted.with_name("fails").touch()
    keyring = Keyring(settings_with(key_command=str(counted)))
    for _ in range(3):
        with pytest.raises(KeyUnavailable, match="exited with 3"):
            keyring.unwrap(WRAPPED, b"place")
    assert runs(counted) == 1
    monkeypatch.setattr(keyring_module, "_FAILED_SECONDS", 0.0)
    keyring = Keyring(settings_with(key_command=str(counted)))
    with pytest.raises(KeyUnavailable, match="exited with 3"):
        keyring.unwrap(WRAPPED, b"place")
    counted.with_name("fails").unlink()
    assert keyring.unwrap(WRAPPED, b"place") == b"secret"


def test_a_spool_gives_what_it_took_and_shows_none_of_it_on_disk(tmp_path: Path) -> None:
    content = random.Random(7).randbytes(2 * BLOCK_BYTES + 1000) + CANARY + b"\nlast"
    with (tmp_path / "spool").open("wb+") as file:
        spool = Spool(file)
        for start in range(0, len(content), 70_001):
            spool.write(content[start : start + 70_001])
        reader = spool.reader()
        assert CANARY not in (tmp_path / "spool").read_bytes()
        assert reader.read() == content
        for start, size in ((BLOCK_BYTES - 3, 7), (0, 1), (2 * BLOCK_BYTES, 5000), (len(content), 1)):
            reader.seek(start)
            assert reader.read(size) == content[start : start + size]
        reader.seek(-4, os.SEEK_END)
        assert (reader.tell(), reader.readline()) == (len(content) - 4, b"last")

        file.seek(BLOCK_BYTES + 100)
        byte = file.read(1)
        file.seek(BLOCK_BYTES + 100)
        file.write(bytes([byte[0] ^ 1]))
        file.flush()
        reader.seek(0)
        assert reader.read(10) == content[:10]
        reader.seek(BLOCK_BYTES + 1)
        with pytest.raises(SealBroken):
            reader.read(1)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_spool_of_any_size_ends_where_it_ends(size: int) -> None:
    with spooled() as spool:
        spool.write(b"x" * size)
        reader = spool.reader()
        assert reader.read() == b"x" * size
        assert reader.seek(0, os.SEEK_END) == size


def test_parquet_is_read_from_a_spool() -> None:
    output = io.BytesIO()
    texts = [f"{CANARY.decode()} {number:300}" for number in range(3000)]
    pq.write_table(
        pa.table({"text": texts}), output, row_group_size=1000, compression="none", use_dictionary=False
    )
    assert len(output.getvalue()) > 2 * BLOCK_BYTES
    with spooled() as spool:
        spool.write(output.getvalue())
        rows = list(read_parquet(spool.reader(), 2**20))
    assert [row[1] for row in rows if isinstance(row, tuple)] == [{"text": text} for text in texts]


def test_a_key_is_on_the_disk_before_it_wraps_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database keeps what it wraps whatever happens to the machine; so must the disk keep the key."""
    synced: list[str] = []
    sync = os.fsync

    def note(descriptor: int) -> None:
        sync(descriptor)
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", note)
    made = make_master_key(tmp_path)
    assert synced == [f"{made.path}.new", str(tmp_path)]
