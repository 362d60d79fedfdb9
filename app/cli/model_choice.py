"""Which language model `--model` names: a directory, an id, an edited model, a hub repository."""

import os
import re
from pathlib import Path
from typing import Final

from app.cli.failures import ExitStatus, fail
from app.store.core.identifiers import Prefix, parse_id
from memaudit import Client
from memaudit.requests import HubSource, PathSource

_TENANT_AND_NAME: Final = re.compile(r"[^/@]+/[^/@]+")


def require_nameable(model: str) -> None:
    """Refuse what cannot name a language model, before anything is sent.

    Raises:
        typer.Exit: with the exit status of a wrong command line.
    """
    path = Path(model)
    if path.is_dir():
        return
    if model.startswith(f"{Prefix.LANGUAGE_MODEL}_") and parse_id(Prefix.LANGUAGE_MODEL, model) is None:
        raise fail(f"{model} is not the id of a language model: mdl_ and 32 hex digits", ExitStatus.USAGE)
    if path.is_file():
        raise fail(f"{model} is a file; give the directory of a checkpoint in safetensors", ExitStatus.USAGE)
    if model.startswith(("/", ".", "~")):
        raise fail(f"there is no directory {model}", ExitStatus.USAGE)


def find_model(client: Client, model: str) -> tuple[str | HubSource | PathSource, str]:
    """A language model as the API takes it, and in words which one that is.

    `tenant/name` is an edited model of this service if it has one of that name, else a hub repository; with
    `@revision` it is a hub repository.

    Raises:
        RequestRefused: the service has no language model of this id, or does not take the key.
        ServiceUnreachable: the service does not answer.
    """
    if parse_id(Prefix.LANGUAGE_MODEL, model) is not None:
        client.models.get(model)
        return model, f"the language model {model}"
    if Path(model).is_dir():
        path = os.fspath(Path(model).absolute())
        return {"type": "path", "path": path}, f"the directory {path}"
    if _TENANT_AND_NAME.fullmatch(model):
        edited = next(client.models.list(model_repo=model, status="ready", page_size=1), None)
        if edited:
            return edited.id, f"{edited.id}, which this service edited and calls {model}"
    repository, _, revision = model.partition("@")
    source: HubSource = {"type": "hub", "repo": repository}
    if revision:
        source["revision"] = revision
    return source, f"the hub repository {model}"
