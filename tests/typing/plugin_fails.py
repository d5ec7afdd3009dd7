"""A plugin with one mistake a line; each marked line must be an error of `mypy --strict`, and no other."""

from typing import Literal

from ctxkit.spec import Chunker, ChunkerOptions, Context, Document, Filter, FilterOptions, StageFinished, hookimpl


class WrongOptions(ChunkerOptions):
    """Wrong in every way."""

    kind: Literal["wrong"]

    def build(self, context: Context) -> Filter:  # error: override
        """Return what is no chunker."""
        return lambda document: document.body  # error: attr-defined


class QuietOptions(FilterOptions):
    """Answers with a boolean."""

    kind: Literal["quiet"]

    def build(self, context: Context) -> Filter:
        """Return what is no judge."""

        def judge(document: Document) -> bool:
            document.text = ""  # error: misc
            return bool(context.seeds)  # error: attr-defined

        return judge  # error: return-value


def chunker(options: ChunkerOptions) -> Chunker:
    """Return a chunker without its context."""
    return options.build()  # error: call-arg


@hookimpl
def ctxkit_stage_finished(event: StageFinished) -> None:
    """Read what an event does not hold."""
    print(event.modle_dir)  # noqa: T201  # error: attr-defined
