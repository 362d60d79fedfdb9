"""The hook for a key management service: a program that wraps and unwraps keys, so that none is kept here.

It is run once a question. On its standard input is one JSON document, and it writes one to its standard
output:

    {"operation": "wrap", "key": "<base64>"}                       -> {"wrapped": "<base64>", "key_id": "..."}
    {"operation": "unwrap", "wrapped": "<base64>", "key_id": "..."} -> {"key": "<base64>"}

`key_id` names the key of the service, in up to 100 letters, digits and `._:/-`. A program that cannot answer
exits with another status than 0; what it writes to standard error goes to the log of the process.
"""

import base64
import binascii
import re
import shlex
import subprocess
from typing import Any, Final

import orjson

from app.errors import KeyUnavailable

# What a key of the service is called here, so that it is not taken for one of a file.
PREFIX: Final = "command:"
_SECONDS: Final = 20.0
_KEY_ID: Final = re.compile(r"[A-Za-z0-9._:/-]{1,100}")


class KeyCommand:
    """Asks the program.

    Args:
        command: the program and its arguments, as a shell would split them.
    """

    def __init__(self, command: str) -> None:
        self._command = shlex.split(command)

    def wrap(self, key: bytes) -> tuple[str, bytes]:
        """The id of the key that wraps now, and a key under it.

        Raises:
            KeyUnavailable: the program did not answer.
        """
        answer = self._ask({"operation": "wrap", "key": base64.b64encode(key).decode()})
        key_id = answer.get("key_id")
        if not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
            raise _unanswered("it named no key")
        return PREFIX + key_id, _bytes_of(answer, "wrapped")

    def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """A key that `wrap` wrapped.

        Raises:
            KeyUnavailable: the program did not answer.
        """
        given = {"wrapped": base64.b64encode(wrapped).decode(), "key_id": key_id.removeprefix(PREFIX)}
        return _bytes_of(self._ask({"operation": "unwrap", **given}), "key")

    def _ask(self, question: dict[str, str]) -> dict[str, Any]:
        try:
            answered = subprocess.run(  # noqa: S603 - the operator's own program
                self._command,
                input=orjson.dumps(question),
                stdout=subprocess.PIPE,
                timeout=_SECONDS,
                check=True,
            )
            answer = orjson.loads(answered.stdout)
        except subprocess.CalledProcessError as error:
            raise _unanswered(f"it exited with {error.returncode}") from None
        except subprocess.TimeoutExpired:
            raise _unanswered(f"it took longer than {_SECONDS:.0f} s") from None
        except OSError as error:
            raise _unanswered(f"it cannot be run ({error.strerror})") from None
        except orjson.JSONDecodeError:
            raise _unanswered("it wrote no JSON") from None
        if not isinstance(answer, dict):
            raise _unanswered("it wrote no JSON object")
        return answer


def _bytes_of(answer: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(answer.get(name, ""), validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise _unanswered(f"its `{name}` is not base64") from None


def _unanswered(why: str) -> KeyUnavailable:
    return KeyUnavailable(
        f"The program of MEMAUDIT_KEY_COMMAND gave no key: {why}. Nothing was lost; try again."
    )
