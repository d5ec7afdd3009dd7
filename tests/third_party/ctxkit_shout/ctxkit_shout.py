"""Keep only documents that shout."""

from typing import Literal

from ctxkit.spec import Component, Context, Filter, FilterOptions, hookimpl


class ShoutOptions(FilterOptions):
    """Keep documents with exclamation marks."""

    kind: Literal["shout"]
    marks: int = 1
    """How many it takes."""

    def build(self, context: Context) -> Filter:
        """Return the judge."""
        return lambda document: None if document.text.count("!") >= self.marks else "too quiet"


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return what this plugin brings."""
    return [ShoutOptions]
