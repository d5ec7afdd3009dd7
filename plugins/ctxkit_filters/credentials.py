"""Texts that hold credentials, told by the published forms of those."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ctxkit.spec import Document


@dataclass(frozen=True)
class Form:
    """What a kind of credential looks like."""

    name: str
    parts: tuple[str, ...]
    """One of these is in every such credential; finding them is a hundred times as fast as the pattern."""
    pattern: re.Pattern[str]

    def found_in(self, text: str) -> bool:
        """Tell whether a text holds one."""
        return any(part in text for part in self.parts) and self.pattern.search(text) is not None


FORMS = {
    # RFC 7468 (PEM) and RFC 9580 (OpenPGP armour, with headers); an example with an ellipsis for the key has no base64.
    "private_key": Form(
        "a private key",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:\s|\\[nr]|[A-Za-z-]+: [^\n]*\n){0,40}[A-Za-z0-9+/=]{16}"
        ),
    ),
    # AWS IAM user guide, "IAM identifiers": AKIA for long-term keys, ASIA for temporary ones. Its own end in EXAMPLE.
    "aws": Form(
        "an AWS access key",
        ("AKIA", "ASIA"),
        re.compile(r"\b(?:AKIA|ASIA)(?![A-Z0-9]{9}EXAMPLE)[A-Z2-7]{16}\b"),
    ),
    # GitHub blog, 2021-04-05, "Behind GitHub's new authentication token formats"; fine-grained tokens came in 2022.
    "github": Form(
        "a GitHub token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59})\b"),
    ),
    # Slack developer docs, "Token types" and "Sending messages using incoming webhooks".
    "slack": Form(
        "a Slack token",
        ("xox", "xapp-", "hooks.slack.com"),
        re.compile(
            r"\b(?:xox[abeoprs]|xapp)-[0-9]{1,13}-[0-9A-Za-z-]{20,}"
            r"|\bhooks\.slack\.com/(?:services|workflows)/T[A-Z0-9]{8,}/[AB][A-Z0-9]{8,}/[A-Za-z0-9]{20,}"
        ),
    ),
    # Google Cloud docs, "Authenticate by using API keys"; client secrets of OAuth begin with GOCSPX.
    "google": Form(
        "a Google API key or client secret",
        ("AIza", "GOCSPX-"),
        re.compile(r"\b(?:AIza[0-9A-Za-z_-]{35}|GOCSPX-[0-9A-Za-z_-]{28})(?![0-9A-Za-z_-])"),
    ),
}


@dataclass(frozen=True)
class CredentialFilter:
    """Judge a document by whether it holds something of the form of a credential."""

    kinds: Sequence[str]

    def __call__(self, document: Document) -> str | None:
        """Return which kind of credential the document holds, never the credential, or None."""
        found = next((FORMS[kind] for kind in self.kinds if FORMS[kind].found_in(document.text)), None)
        return None if found is None else f"holds {found.name}"
