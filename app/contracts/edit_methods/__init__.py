"""The edit methods: what a client may ask of each and what it is answered. A new one is imported here."""

from app.contracts.edit_methods import kfac, balanced_subnet, svd  # noqa: I001 - the order of the API
from app.contracts.edit_methods.registry import METHODS, DefaultLayers, MethodContract, Refusal, register

__all__ = [
    "METHODS",
    "DefaultLayers",
    "MethodContract",
    "Refusal",
    "balanced_subnet",
    "kfac",
    "register",
    "svd",
]
