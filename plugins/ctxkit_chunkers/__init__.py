"""Chunkers that cut documents one by one or write several into one example, and an eval on snippets of code."""

from ctxkit.spec import Component, hookimpl
from ctxkit_chunkers.eval_options import SnippetQaEvalOptions
from ctxkit_chunkers.options import OverlapOptions, ParagraphOptions, PoseOptions
from ctxkit_chunkers.structures import CommitChainOptions, MultiFileOptions, SnippetQaOptions

__all__ = [
    "CommitChainOptions",
    "MultiFileOptions",
    "OverlapOptions",
    "ParagraphOptions",
    "PoseOptions",
    "SnippetQaEvalOptions",
    "SnippetQaOptions",
    "ctxkit_components",
]


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the options classes that this plugin adds."""
    return [
        OverlapOptions,
        ParagraphOptions,
        PoseOptions,
        MultiFileOptions,
        CommitChainOptions,
        SnippetQaOptions,
        SnippetQaEvalOptions,
    ]
