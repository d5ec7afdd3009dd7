"""Chunkers that see one document at a time: fixed windows with overlap, and cuts at paragraph borders."""

from ctxkit.spec import Component, hookimpl
from ctxkit_chunkers.options import OverlapOptions, ParagraphOptions

__all__ = ["OverlapOptions", "ParagraphOptions", "ctxkit_components"]


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the options classes that this plugin adds to the `chunker` slot."""
    return [OverlapOptions, ParagraphOptions]
