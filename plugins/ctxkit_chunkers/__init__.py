"""Chunkers that cut documents one by one, and chunkers that write several into one example."""

from ctxkit.spec import Component, hookimpl
from ctxkit_chunkers.options import OverlapOptions, ParagraphOptions
from ctxkit_chunkers.structures import CommitChainOptions, MultiFileOptions

__all__ = ["CommitChainOptions", "MultiFileOptions", "OverlapOptions", "ParagraphOptions", "ctxkit_components"]


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the options classes that this plugin adds."""
    return [OverlapOptions, ParagraphOptions, MultiFileOptions, CommitChainOptions]
