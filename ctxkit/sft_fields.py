"""The names of `SFTConfig` and `LoraConfig`, read from the source of the installed libraries, none imported.

Importing `SFTConfig` costs seconds, parsing three files 0.03 s: a misspelt name is found before anything loads.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ctxkit.errors import said

_CLASSES = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("trl", "trainer/sft_config.py", "SFTConfig"),
)


_LORA = (("peft", "tuners/lora/config.py", "LoraConfig"),)


@dataclass(frozen=True)
class SftField:
    """A field of `SFTConfig` as its source declares it."""

    name: str
    annotation: str
    default: str
    """The source text of the default; empty where a function makes it."""
    help: str = ""

    @property
    def types(self) -> set[str]:
        """The names of the types that it takes, such as `int` and `None`."""
        names = {part.strip().partition("[")[0] for part in self.annotation.split("|")}
        return names | _ALSO_TAKES.get(self.name, set())

    def fault(self, value: object) -> str:
        """Return why a value cannot be of the declared type, judged for plain types only, or an empty string."""
        names = self.types
        if not names <= _PLAIN.keys() or any(type(value) in _PLAIN[name] for name in names):
            return ""
        return f"needs {' or '.join(text for name, text in _SAID.items() if name in names)}, got {said(value)}"


_ALSO_TAKES = {"fsdp": {"bool"}}
"""What a field takes beyond its annotation, by its own documentation."""
_PLAIN: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "dict": (dict,),
    "list": (list,),
    "None": (type(None),),
}
_SAID = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "dict": "a mapping"}
_SAID |= {"list": "a list", "None": "null"}


@functools.cache
def sft_fields() -> dict[str, SftField]:
    """Return the fields of the installed `SFTConfig` by name, inherited ones included.

    Raises:
        ModuleNotFoundError: trl or transformers is not installed.
    """
    return _fields(_CLASSES)


@functools.cache
def lora_fields() -> dict[str, SftField]:
    """Return the fields of the installed peft's `LoraConfig` by name.

    Raises:
        ModuleNotFoundError: peft is not installed.
    """
    return _fields(_LORA)


def _fields(classes: tuple[tuple[str, str, str], ...]) -> dict[str, SftField]:
    fields: dict[str, SftField] = {}
    for package, file, class_name in classes:
        fields |= _declared(_source(package, file), class_name)
    return fields


def _source(package: str, file: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{package} is not installed")
    return (Path(spec.origin).parent / file).read_text(encoding="utf-8")


def _declared(source: str, class_name: str) -> dict[str, SftField]:
    classes = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == class_name)
    fields = {}
    for statement in next(classes).body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            fields[name] = SftField(name, ast.unparse(statement.annotation).strip("'\""), *_default(statement.value))
    return {name: field for name, field in fields.items() if not name.startswith("_")}


def _default(value: ast.expr | None) -> tuple[str, str]:
    """Return default and help of a `field(default=..., metadata={"help": ...})`, as text."""
    if not isinstance(value, ast.Call):
        return (ast.unparse(value) if value else ""), ""
    keywords = {keyword.arg: keyword.value for keyword in value.keywords}
    help_text = ""
    metadata = keywords.get("metadata")
    if isinstance(metadata, ast.Dict):
        for key, item in zip(metadata.keys, metadata.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "help" and isinstance(item, ast.Constant):
                help_text = " ".join(str(item.value).split())
    return (ast.unparse(keywords["default"]) if "default" in keywords else ""), help_text
