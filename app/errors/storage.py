"""Artifacts and their bytes, and what else work stands on: the database and the hub."""

from http import HTTPStatus

from app.errors.base import JobFailed


class ArtifactNameTaken(JobFailed):
    """The tenant has an artifact of this name already."""

    status = HTTPStatus.CONFLICT
    slug = "artifact-name-taken"
    title = "Artifact name taken"


class ArtifactCorrupt(JobFailed):
    """Stored bytes do not match their digest. They are never served and never used."""

    slug = "artifact-corrupt"
    title = "Artifact corrupt"


class BlobMissing(JobFailed):
    """A blob that an artifact needs is not in the store any more; putting the files again helps."""

    slug = "blob-missing"
    title = "Blob missing"
    retryable = True


class StorageFull(JobFailed):
    """The database or the artifact store has no room left."""

    status = HTTPStatus.INSUFFICIENT_STORAGE
    slug = "storage-full"
    title = "Storage full"


class StorageUnavailable(JobFailed):
    """The artifact store cannot be reached right now."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "storage-unavailable"
    title = "Artifact store unavailable"
    transient = True


class ServiceUnavailable(JobFailed):
    """What the request needs is away or busy right now; it changed nothing and can be repeated."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    slug = "service-unavailable"
    title = "Service unavailable"
    transient = True


class HubUnreachable(JobFailed):
    """The hub that holds the checkpoint or the data set did not answer."""

    slug = "hub-unreachable"
    title = "Hub unreachable"
    transient = True


class KeyUnavailable(ServiceUnavailable):
    """A key that texts or secrets are sealed with cannot be had; the detail says which, and what to set."""

    slug = "key-unavailable"
    title = "Key unavailable"


class SealBroken(JobFailed):
    """Something sealed does not open with its key: it was changed, moved, or is another's."""

    slug = "seal-broken"
    title = "Seal broken"
