"""What the operator of an instance sets for a tenant. Each field is optional."""

from app.contracts.base import Contract


class Quotas(Contract):
    """How much of the instance a tenant may use; null is the instance's default."""


class Retention(Contract):
    """How long what a tenant submits is kept, in days; null is for ever."""
