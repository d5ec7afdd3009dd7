"""Histories as chains of versions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from ctxkit.errors import DataError
from ctxkit.spec import BY_RULE, Document
from ctxkit_sources.git.blobs import Ahead, OneByOne
from ctxkit_sources.git.diff import unified
from ctxkit_sources.git.names import readable
from ctxkit_sources.git.repository import opened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ctxkit_sources.git.blobs import Blob
    from ctxkit_sources.git.lineages import Lineage, Step, Version
    from ctxkit_sources.git.log import Commit
    from ctxkit_sources.git.repository import Repository
    from ctxkit_sources.git.selection import Selection
    from ctxkit_sources.git.texts import Texts

Metadata: TypeAlias = "dict[str, str | int | float]"
Form: TypeAlias = Literal["diffs", "versions"]


@dataclass(frozen=True)
class Chains:
    """What both kinds of chain share."""

    source: str
    revision: str
    name: str | None
    selection: Selection
    texts: Texts
    form: Form
    min_versions: int

    def _enough(self, documents: Iterator[Document]) -> Iterator[Document]:
        """Yield the documents of one chain, or none where they are too few."""
        held = list(islice(documents, self.min_versions))
        if len(held) == self.min_versions:
            yield from held
            yield from documents
        else:
            for document in held:
                self.selection.skipped(document.id, f"{BY_RULE}fewer than min_versions")

    def _nothing(self, repository: Repository) -> DataError:
        hint = "patterns are relative to the root of the repository; `**/*.py` finds a name in every folder"
        return DataError(f"no file in the history of {repository.name} is included", hint)


@dataclass(frozen=True)
class FileChains(Chains):
    """One chain a file, in the order in which the files appeared.

    The plan is made first, about half a kilobyte a version; contents are read as they are needed.
    """

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents of one file after the other, each oldest first.

        Raises:
            DataError: no repository, no such revision, no file included, or a broken repository.
        """
        with opened(self.source, self.revision, self.name) as repository:
            lineages = self._planned(repository)
            if not lineages:
                raise self._nothing(repository)
            ids = (step.blob for lineage in lineages for _, step in lineage.versions)
            with Ahead(repository, ids, self.texts.max_bytes) as ahead:
                blobs = iter(ahead)
                for lineage in lineages:
                    yield from self._enough(self._chain(lineage, blobs, repository.name))

    def _planned(self, repository: Repository) -> Sequence[Lineage]:
        lineages: dict[Lineage, None] = {}
        for commit, versions in self.selection.read(repository):
            for version in versions:
                if version.step.blob:
                    version.lineage.versions.append((commit, version.step))
                    lineages[version.lineage] = None
                else:
                    self.selection.skipped(_id(commit, version.step), f"{BY_RULE}deletion")
        return list(lineages)

    def _chain(self, lineage: Lineage, blobs: Iterator[Blob], name: str) -> Iterator[Document]:
        before: tuple[bytes, str] | None = None
        order = 0
        group = f"{name}:{lineage.birth}"
        # As the source `git` names the file, so that its history is set aside for evaluation with it.
        origin = f"{name}/{readable(lineage.versions[-1][1].path)}"
        for (commit, step), blob in zip(lineage.versions, blobs, strict=False):
            id_ = _id(commit, step)
            text, reason = self.texts.read(blob, id_)
            if not reason and (step.path, text) == before:
                reason = f"{BY_RULE}unchanged"
            if reason:
                self.selection.skipped(id_, reason)
                continue
            shown = (
                text if before is None or self.form == "versions" else unified(before[1], text, before[0], step.path)
            )
            yield Document(shown, id_, group, order, {**_metadata(name, commit, step), "origin": origin})
            before = step.path, text
            order += 1


@dataclass(frozen=True)
class RepositoryChain(Chains):
    """One chain for the whole repository: its commits, each with what it changes."""

    def __iter__(self) -> Iterator[Document]:
        """Yield the documents, oldest commit first.

        Raises:
            DataError: no repository, no such revision, no file included, or a broken repository.
        """
        with (
            opened(self.source, self.revision, self.name) as repository,
            OneByOne(repository, self.texts.max_bytes) as blobs,
        ):
            yield from self._enough(self._commits(repository, blobs))

    def _commits(self, repository: Repository, blobs: OneByOne) -> Iterator[Document]:
        chain = _Chain(self.texts, blobs, self.selection, {})
        form = self._patched if self.form == "diffs" else self._full
        order, found = 0, False
        for commit, versions in self.selection.read(repository):
            found = found or bool(versions)
            for id_, text, metadata in form(commit, versions, chain, repository.name):
                yield Document(text, id_, repository.name, order, metadata)
                order += 1
        if not found:
            raise self._nothing(repository)

    def _patched(
        self, commit: Commit, versions: Sequence[Version], chain: _Chain, name: str
    ) -> Iterator[tuple[str, str, Metadata]]:
        patches = {version: patch for version in versions if (patch := chain.patch(version))}
        if patches:
            changes = Counter(version.step.change for version in patches)
            yield commit.id, "".join(patches.values()), {**_metadata(name, commit), "files": len(patches), **changes}

    def _full(
        self, commit: Commit, versions: Sequence[Version], chain: _Chain, name: str
    ) -> Iterator[tuple[str, str, Metadata]]:
        for version in versions:
            text = chain.text(version)
            if text is not None:
                yield _id(commit, version.step), text, _metadata(name, commit, version.step)


@dataclass(frozen=True)
class _Chain:
    """Where each file of the chain of a repository stands: the path and blob of the version that came last."""

    texts: Texts
    blobs: OneByOne
    selection: Selection
    last: dict[Lineage, tuple[bytes, str]]

    def text(self, version: Version) -> str | None:
        """Return the text of a version and let the file stand there; None, with the reason told, where it has none."""
        step, text = version.step, ""
        place = step.path, step.blob
        if self.last.get(version.lineage) == place:
            reason = f"{BY_RULE}unchanged"
        elif not step.blob:
            self.last.pop(version.lineage, None)
            reason = f"{BY_RULE}deletion"
        else:
            text, reason = self.texts.read(self.blobs.read(step.blob), _id(version.commit, step))
        if reason:
            self.selection.skipped(_id(version.commit, step), reason)
            return None
        self.last[version.lineage] = place
        return text

    def patch(self, version: Version) -> str:
        """Return the difference to where the file stood, and let it stand there; nothing where there is none."""
        last = self.last.get(version.lineage)
        if version.step.blob:
            text, path = self.text(version), version.step.path
            return "" if text is None else unified(self._old(last), text, last[0] if last else path, path)
        if last is None:
            return ""
        del self.last[version.lineage]
        return unified(self._old(last), None, last[0], last[0])

    def _old(self, last: tuple[bytes, str] | None) -> str | None:
        return self.texts.read(self.blobs.read(last[1]), "")[0] if last else None


def _id(commit: Commit, step: Step) -> str:
    return f"{commit.id}:{readable(step.path)}"


def _metadata(name: str, commit: Commit, step: Step | None = None) -> Metadata:
    known: Metadata = {"repository": name, "commit": commit.id, "date": commit.date, "subject": commit.subject}
    if step:
        known |= {"path": readable(step.path), "change": step.change}
        if step.change == "renamed":
            known |= {"renamed_from": readable(step.old_path), "similarity": step.similarity}
    return known
