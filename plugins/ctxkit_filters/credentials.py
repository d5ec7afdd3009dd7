"""Texts that hold credentials, told by the published forms of those."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxkit.spec import Document

FORMS = {
    "private_key": re.compile(
        # RFC 7468 (PEM) and RFC 9580 (OpenPGP) armour, with some base64 in it; an ellipsis instead is an example
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]|[A-Za-z-]+: [^\n]*\n)*"
        r"[A-Za-z0-9+/=]{16}"
    ),
    # docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html: AKIA long-term, ASIA temporary keys;
    # their documentation's own examples end in EXAMPLE
    "aws": re.compile(r"\b(?:AKIA|ASIA)(?![A-Z0-9]{9}EXAMPLE)[A-Z2-7]{16}\b"),
    # github.blog/2021-04-05-behind-githubs-new-authentication-token-formats
    "github": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b"),
    # docs.slack.dev/authentication/tokens and .../messaging/sending-messages-using-incoming-webhooks
    "slack": re.compile(
        r"\b(?:xox[abeoprs]|xapp)-[0-9A-Za-z]{1,13}-[0-9A-Za-z-]{20,}"
        r"|https://hooks\.slack\.com/(?:services|workflows)/T[A-Z0-9]{8,}/[AB][A-Z0-9]{8,}/[A-Za-z0-9]{20,}"
    ),
    # cloud.google.com/docs/authentication/api-keys; client secrets of OAuth begin with GOCSPX-
    "google": re.compile(r"\b(?:AIza[0-9A-Za-z_-]{35}|GOCSPX-[0-9A-Za-z_-]{28})(?![0-9A-Za-z_-])"),
}
NAMES = {
    "private_key": "a private key",
    "aws": "an AWS access key",
    "github": "a GitHub token",
    "slack": "a Slack token",
    "google": "a Google API key or client secret",
}


@dataclass(frozen=True)
class CredentialFilter:
    """Judge a document by whether it holds something of the form of a credential."""

    kinds: Sequence[str]

    def __call__(self, document: Document) -> str | None:
        """Return which kind of credential the document holds, never the credential, or None."""
        found = next((kind for kind in self.kinds if FORMS[kind].search(document.text)), None)
        return None if found is None else f"holds {NAMES[found]}"
