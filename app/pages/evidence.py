"""What pages ask before they offer evidence."""

from typing import Annotated

from fastapi import Depends
from starlette.concurrency import run_in_threadpool

from app.http.dependencies import SettingsDependency
from app.signing.keys import can_sign


async def _can_sign(settings: SettingsDependency) -> bool:
    return await run_in_threadpool(can_sign, settings.signing_keys_directory)


# Whether there is a key for documents that are signed.
Signed = Annotated[bool, Depends(_can_sign)]
