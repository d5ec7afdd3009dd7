"""What a person should know of what was found before training on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ctxkit.inspection.documents import Documents, LeftOut
    from ctxkit.inspection.targets import Target

SECRETS = "secrets"
"""The kind of the filter that drops texts with keys in them."""


def notes(target: Target, documents: Documents) -> Iterator[str]:
    """Yield a sentence or two on each thing."""
    if documents.outliers:
        yield _outliers(target, documents)
    if documents.secrets:
        yield _secrets(documents.secrets)


def _outliers(target: Target, documents: Documents) -> str:
    long, total = documents.outliers, sum(item.tokens for item in documents.types)
    names = ", ".join(f"{item.id} ({item.tokens:,} tokens)" for item in long)
    share = sum(item.tokens for item in long) / total
    them = "it" if len(long) == 1 else "them"
    way = "the filter `length`" if target.kind == "hub" else "`exclude`"
    return (
        f"{names} hold{'s' * (len(long) == 1)} {share:.0%} of the tokens. The windows below suit the other "
        f"{documents.count - len(long):,} documents, and cut {them}: leave {them} out with {way}, or choose "
        f"a longer window to train on {them} whole."
    )


def _secrets(found: LeftOut) -> str:
    more = ", ..." * (found.count > len(found.examples))
    return (
        f"{found.count:,} document{'s' * (found.count != 1)} may hold keys or passwords, by the name: "
        f"{', '.join(found.examples)}{more}. Leave such files out with `exclude`; the filter `{SECRETS}` drops texts "
        "with well-known kinds of keys, wherever they are."
    )
