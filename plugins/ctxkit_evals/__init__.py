"""What is measured on a model: perplexity by context length, and recall of a key by length and depth."""

from ctxkit.spec import Component, hookimpl
from ctxkit_evals.harness_options import LmEvalOptions
from ctxkit_evals.passkey_options import PasskeyOptions
from ctxkit_evals.perplexity_options import PerplexityOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the evals."""
    return [
        LmEvalOptions,
        PasskeyOptions,
        PerplexityOptions,
    ]
