"""Where documents come from: files, git repositories, the hub, and synthetic text that makes recall measurable."""

from ctxkit.spec import Component, hookimpl
from ctxkit_sources.git.options import GitHistoryOptions, GitOptions
from ctxkit_sources.options import FilesOptions, HubOptions, KeyRecallOptions, RepeatsOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the sources."""
    return [FilesOptions, GitHistoryOptions, GitOptions, HubOptions, KeyRecallOptions, RepeatsOptions]
