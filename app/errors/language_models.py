"""A language model that cannot be had, or not be used."""

from http import HTTPStatus

from app.errors.base import Conflict, JobFailed, ValidationFailed


class SourceNotAllowed(ValidationFailed):
    """The path of a language model lies outside the allow-listed roots."""

    slug = "source-not-allowed"
    title = "Source not allowed"


class LanguageModelNotReady(Conflict):
    """The language model was rejected or deleted, so nothing can be scored with it."""

    slug = "language-model-not-ready"
    title = "Language model not ready"


class LanguageModelRejected(JobFailed):
    """The checkpoint cannot be used: not safetensors, custom code, unsupported, unreadable."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "language-model-rejected"
    title = "Language model rejected"


class LanguageModelChanged(JobFailed):
    """The files of the checkpoint no longer match the digests recorded at registration."""

    status = HTTPStatus.CONFLICT
    slug = "language-model-changed"
    title = "Language model changed"


class NoSuchPrefixToken(JobFailed):
    """The language model lacks the prefix token that was asked for."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "no-such-prefix-token"
    title = "No such prefix token"


class ReferenceIsSame(JobFailed):
    """The reference model has the same weights and tokenizer as the one that is compared with it."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    slug = "reference-is-same"
    title = "Reference model is the same"
