"""A recipe made small enough to run whole on a CPU in about a minute, with every change said."""

from ctxkit.rehearsal.changes import SUFFIX, Change, Found, rehearsed, said
from ctxkit.rehearsal.scaling import halvings, longest
from ctxkit.rehearsal.toy import toy_config
from ctxkit.rehearsal.walking import components

__all__ = ["SUFFIX", "Change", "Found", "components", "halvings", "longest", "rehearsed", "said", "toy_config"]
