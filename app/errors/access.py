"""Who may ask, and how tenants and keys are administered."""

from app.errors.base import Conflict, TooManyRequests


class TenantNameTaken(Conflict):
    """Another tenant has this name."""

    slug = "tenant-name-taken"
    title = "Tenant name taken"

    def __init__(self) -> None:
        super().__init__("There is a tenant of this name; give another one.")


class TooManyKeys(Conflict):
    """Two API keys of this name live: the one in use, and the one that takes its place."""

    slug = "too-many-keys"
    title = "Too many keys of this name"

    def __init__(self) -> None:
        super().__init__("Two keys of this name live; revoke one of them first, or choose another name.")


class OwnTenant(Conflict):
    """Whoever asks would lock itself out."""

    slug = "own-tenant"
    title = "Own tenant"

    def __init__(self) -> None:
        super().__init__("The key that asks belongs to this tenant; use one of another tenant to disable it.")


class TooManyWrongKeys(TooManyRequests):
    """Too many keys from one address were wrong; further ones are not looked at for `retry_after` seconds."""

    slug = "too-many-wrong-keys"
    title = "Too many wrong keys"

    def __init__(self, retry_after: int) -> None:
        super().__init__(
            "Too many keys from this address were wrong; repeat the request later.",
            limit="wrong_keys",
            retry_after=retry_after,
        )
