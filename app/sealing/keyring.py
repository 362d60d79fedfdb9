"""The master keys of a process: what wraps keys and secrets, and opens what older ones wrapped."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Final

from app.errors import KeyUnavailable, SealBroken
from app.sealing.key_command import PREFIX, KeyCommand
from app.sealing.master_keys import HOW, MasterKey, keys_of_directory, keys_of_setting
from app.settings import Settings, get_settings

# What the first byte of something wrapped says of the rest: the length of the key's id, the id, the box.
_VERSION: Final = b"\x01"
# An opened key is kept this long, and only so many.
KEPT_SECONDS: Final = 300.0
_MOST_KEPT: Final = 1024
# A program that gave no key is left in peace so long. While it is asked, others wait for its answer too, but
# not much longer than one takes that will come.
_FAILED_SECONDS: Final = 3.0
_PATIENCE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A key or a secret under a master key.

    Attributes:
        key_id: of the master key.
        box: what opens with it.
    """

    key_id: str
    box: bytes

    def write(self) -> bytes:
        """As one string of bytes, as it is stored."""
        key_id = self.key_id.encode()
        return _VERSION + bytes([len(key_id)]) + key_id + self.box

    @classmethod
    def read(cls, stored: bytes) -> "Wrapped":
        """What `write` wrote.

        Raises:
            SealBroken: it is something else.
        """
        if stored[:1] != _VERSION or len(stored) < 2:  # noqa: PLR2004 - the version and a length
            raise SealBroken("Something that is stored wrapped is of an unknown form.")
        end = 2 + stored[1]
        return cls(stored[2:end].decode("ascii", "replace"), stored[end:])


class _Opening:
    """A question for a secret and its answer, for all who ask meanwhile and for some time after."""

    def __init__(self) -> None:
        self._answer: Future[bytes] = Future()
        self._others_until = time.monotonic() + _PATIENCE_SECONDS
        self._kept_until = math.inf

    @property
    def is_over(self) -> bool:
        """Whether it has to be asked anew."""
        return time.monotonic() >= self._kept_until

    def answer(self, ask: Callable[[], bytes], failed_seconds: float) -> None:
        """Ask, once. A key that cannot be had is not asked for again for so long."""
        try:
            secret = ask()
        except BaseException as failure:  # noqa: BLE001 - whoever waits is told of it, as the one that asks
            self._keep(failed_seconds if isinstance(failure, KeyUnavailable) else -math.inf)
            self._answer.set_exception(failure)
        else:
            self._keep(KEPT_SECONDS)
            self._answer.set_result(secret)

    def secret(self) -> bytes:
        """The answer, if it comes in time.

        Raises:
            KeyUnavailable: there is no key, or not yet.
            SealBroken: what is wrapped was changed or is of another place.
        """
        try:
            failure = self._answer.exception(max(0.0, self._others_until - time.monotonic()))
        except TimeoutError:
            raise KeyUnavailable("The key service has not answered yet; try again.") from None
        if isinstance(failure, KeyUnavailable | SealBroken):
            raise type(failure)(failure.detail)  # one for each: an error knows who raised it
        return self._answer.result()

    def _keep(self, seconds: float) -> None:
        self._kept_until = time.monotonic() + seconds


class Keyring:
    """The master keys that settings name.

    A directory is read again when it has changed: a key that was added to it wraps from then on.

    Args:
        settings: which keys.
    """

    def __init__(self, settings: Settings) -> None:
        setting = settings.master_key
        self._of_setting = [] if setting is None else keys_of_setting(setting.get_secret_value())
        self._directory = settings.master_keys_directory
        self._of_directory: list[MasterKey] = []
        self._read_at: int | None = None
        self._command = None if settings.key_command is None else KeyCommand(settings.key_command)
        self._opened: OrderedDict[tuple[bytes, bytes], _Opening] = OrderedDict()
        self._lock = Lock()

    @property
    def runs_a_program(self) -> bool:
        """Whether to wrap, and to unwrap what is not kept, takes as long as a program."""
        return self._command is not None

    def held(self) -> list[MasterKey]:
        """The keys that this process holds, those that wrap first.

        Raises:
            KeyUnavailable: a file holds no key.
        """
        changed = _changed_at(self._directory)
        if changed != self._read_at:
            self._of_directory = keys_of_directory(self._directory)
            self._read_at = changed
        return [*self._of_setting, *self._of_directory]

    def require(self) -> None:
        """Refuse to go on without a key that wraps.

        Raises:
            KeyUnavailable: there is none; the detail says what to set.
        """
        if self._command is None and not self.held():
            raise KeyUnavailable(f"This instance has no master key, so that no text can be stored. {HOW}")

    def wrap(self, secret: bytes, place: bytes) -> Wrapped:
        """A secret under the key that wraps now; it opens only in its place.

        Raises:
            KeyUnavailable: there is no such key.
        """
        if self._command is not None:
            # The service binds nothing to a place, so that the place is sealed in with the secret.
            key_id, box = self._command.wrap(_with_place(secret, place))
            return Wrapped(key_id, box)
        self.require()
        newest = self.held()[0]
        return Wrapped(newest.key_id, newest.sealer.seal(secret, place))

    def unwrap(self, stored: bytes, place: bytes) -> bytes:
        """The secret in something wrapped; kept for a few minutes. Of many who ask at once, one opens it.

        Raises:
            KeyUnavailable: the key that wrapped it is not among those of this process.
            SealBroken: it was changed or is of another place.
        """
        with self._lock:
            opening = self._opened.get((stored, place))
            is_first = opening is None or opening.is_over
            if opening is None or is_first:
                opening = self._opened[stored, place] = _Opening()
                self._opened.move_to_end((stored, place))
                if len(self._opened) > _MOST_KEPT:
                    self._opened.popitem(last=False)
        if is_first:
            failed_seconds = _FAILED_SECONDS if self.runs_a_program else 0.0
            opening.answer(lambda: self._unwrap(Wrapped.read(stored), place), failed_seconds)
        return opening.secret()

    def forget(self, stored: bytes, place: bytes) -> None:
        """Keep an opened secret no longer."""
        with self._lock:
            self._opened.pop((stored, place), None)

    def wraps_with(self) -> str:
        """The id of the master key that wraps now; a program is asked.

        Raises:
            KeyUnavailable: there is none.
        """
        return self.wrap(b"", b"").key_id

    def makes_keys(self) -> bool:
        """Whether the key that wraps is one of the directory, so that a new one there takes its place."""
        return self._command is None and not self._of_setting

    def _unwrap(self, wrapped: Wrapped, place: bytes) -> bytes:
        if wrapped.key_id.startswith(PREFIX):
            if self._command is None:
                raise KeyUnavailable(
                    f"A key is wrapped by {wrapped.key_id}, and MEMAUDIT_KEY_COMMAND is not set."
                )
            return _without_place(self._command.unwrap(wrapped.key_id, wrapped.box), place)
        for key in self.held():
            if key.key_id == wrapped.key_id:
                return key.sealer.open(wrapped.box, place)
        raise KeyUnavailable(
            f"The master key {wrapped.key_id} is not among the keys of this process, which cannot open what "
            "it wrapped. Give it back: `memaudit keys master` says which keys are needed."
        )


def _changed_at(directory: Path) -> int | None:
    try:
        return directory.stat().st_mtime_ns
    except OSError:
        return None


def _with_place(secret: bytes, place: bytes) -> bytes:
    return len(place).to_bytes(2) + place + secret


def _without_place(content: bytes, place: bytes) -> bytes:
    before = _with_place(b"", place)
    if not content.startswith(before):
        raise SealBroken("Something that is stored wrapped is of another place.")
    return content[len(before) :]


@lru_cache(maxsize=1)
def get_keyring() -> Keyring:
    """The keyring of this process.

    Raises:
        KeyUnavailable: what is set as a key is none.
    """
    return Keyring(get_settings())


def seal_secret(secret: bytes) -> bytes:
    """A secret that this instance has to keep, as a column may hold it.

    Raises:
        KeyUnavailable: there is no master key.
    """
    return get_keyring().wrap(secret, SECRET).write()


def open_secret(stored: bytes) -> bytes:
    """What `seal_secret` sealed.

    Raises:
        KeyUnavailable: the master key that it was sealed with is not here.
        SealBroken: it was changed.
    """
    return get_keyring().unwrap(stored, SECRET)


SECRET: Final = b"secret"
