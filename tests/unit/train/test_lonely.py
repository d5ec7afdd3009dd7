"""A process that no launcher started has nobody to tell DeepSpeed where it meets others."""

from __future__ import annotations

import json

import pytest

from ctxkit.errors import CtxkitError
from ctxkit.train.run import _refuse_lonely_deepspeed
from tests.conftest import Load

pytestmark = pytest.mark.torch


def test_deepspeed_needs_a_launcher(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused with the line to type; a launcher's process and other layouts go on."""
    recipe = {
        "name": "lonely",
        "model": {"config": {"model_type": "llama"}},
        "tokenizer": {"train": {"vocab_size": 300}},
        "data": {"sources": [{"kind": "files", "paths": ["*.txt"]}], "chunker": {"kind": "overlap", "length": 128}},
        "train": {"max_steps": 5},
    }
    plain, zero3 = load(json.dumps(recipe)), load(json.dumps({**recipe, "launch": {"deepspeed": "zero3"}}))
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    _refuse_lonely_deepspeed(plain)
    with pytest.raises(CtxkitError, match="DeepSpeed needs a launcher"):
        _refuse_lonely_deepspeed(zero3)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    _refuse_lonely_deepspeed(zero3)
