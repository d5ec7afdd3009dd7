"""Names of files that commonly hold keys or passwords."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_NAMES = (
    *(".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass", ".htpasswd"),
    *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.pem", "*.key", "*.ppk", "*.p12", "*.pfx", "*.jks", "*.keystore"),
    *(
        ".git-credentials",
        "credentials",
        *(
            f"{name}.{ending}"
            for name in ("credentials", "secrets", "client_secret*")
            for ending in ("json", "yml", "yaml", "toml", "ini", "txt", "env")
        ),
    ),
)
_EXAMPLES = (".example", ".sample", ".template", ".dist")
"""Endings of files that show the form of a secret, and have none."""


def looks_secret(name: str) -> bool:
    """Return whether the last part of a path, whatever its case, is such a name."""
    last = PurePosixPath(name).name.lower()
    return not last.endswith(_EXAMPLES) and any(fnmatchcase(last, pattern) for pattern in _NAMES)
