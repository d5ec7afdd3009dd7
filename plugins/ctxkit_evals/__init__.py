"""What is measured on a model: perplexity by context length, and recall of a key by length and depth."""

from ctxkit.spec import Component, hookimpl
from ctxkit_evals.harness_options import LmEvalOptions
from ctxkit_evals.key_value_options import KeyValueOptions
from ctxkit_evals.long_qa_options import LongQaOptions
from ctxkit_evals.longppl_options import LongPplOptions
from ctxkit_evals.needle_options import NeedleOptions
from ctxkit_evals.passkey_options import PasskeyOptions
from ctxkit_evals.perplexity_options import PerplexityOptions
from ctxkit_evals.ruler.options import RulerOptions


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the evals."""
    return [
        LmEvalOptions,
        KeyValueOptions,
        LongPplOptions,
        LongQaOptions,
        NeedleOptions,
        PasskeyOptions,
        PerplexityOptions,
        RulerOptions,
    ]
