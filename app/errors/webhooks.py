"""Failures of webhooks."""

from app.errors.base import Conflict


class TooManyWebhooks(Conflict):
    """The tenant has as many webhooks as one may have."""

    slug = "too-many-webhooks"
    title = "Too many webhooks"


class TooManySecrets(Conflict):
    """As many secrets of a webhook sign as may."""

    slug = "too-many-secrets"
    title = "Too many secrets"


class TooManyTests(Conflict):
    """As many tests of a webhook wait to be delivered as may."""

    slug = "too-many-tests"
    title = "Too many tests"


class WebhookDisabled(Conflict):
    """Nothing is sent to a webhook that is disabled."""

    slug = "webhook-disabled"
    title = "Webhook disabled"
