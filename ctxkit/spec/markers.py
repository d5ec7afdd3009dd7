"""The marker by which a plugin's function becomes a hook implementation."""

import pluggy

hookimpl = pluggy.HookimplMarker("ctxkit")
