"""Which documents stay."""

from ctxkit.spec import Component, hookimpl
from ctxkit_filters.options import LengthOptions, SecretsOptions, TruncationOptions
from ctxkit_filters.token_options import (
    ExactDuplicatesOptions,
    LeakageOptions,
    NearDuplicatesOptions,
    RepetitionOptions,
    TokensOptions,
)


@hookimpl
def ctxkit_components() -> list[type[Component]]:
    """Return the filters."""
    return [
        LengthOptions,
        TokensOptions,
        RepetitionOptions,
        TruncationOptions,
        ExactDuplicatesOptions,
        NearDuplicatesOptions,
        LeakageOptions,
        SecretsOptions,
    ]
