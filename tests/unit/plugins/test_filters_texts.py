"""Truncated texts and texts with credentials."""

from __future__ import annotations

import base64
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from ctxkit.spec import Context, Document
from ctxkit_filters import SecretsOptions, TruncationOptions

CUT, FENCED = "ends with a mark of truncation", "ends within a fenced code block"
LETTERS = "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cD"  # of no service: each test adds the prefix


def cut(text: str, **options: Any) -> str | None:
    """Return what the filter says of a text."""
    return TruncationOptions.model_validate({"kind": "truncation", **options}).build(Context())(Document(text, "d"))


def secret(text: str, **options: Any) -> str | None:
    """Return what the filter says of a text."""
    return SecretsOptions.model_validate({"kind": "secrets", **options}).build(Context())(Document(text, "d"))


@pytest.mark.parametrize(
    "end",
    [
        "[truncated]",
        "[TRUNCATED]\n",
        "<truncated>",
        "<|truncated|>",
        "(output truncated)",
        "[file was truncated]",
        "... (continued)",
        "(to be continued...)",
        "(continued on page 12)",
        "and [+1234 chars]",
        "[+5 more lines]",
        "and so on... Read more",
        "and so on…read more »",
        "and so on\nRead more...",
        "and so on\n\n[Show more]\n",
        "and so [...]",
        "and so […] \n",
        "half a charact\ufffd",
    ],
)
def test_truncated(end: str) -> None:
    """What says of itself that it was cut is dropped, whatever white space follows; within a text it is a subject."""
    assert cut(f"A text that goes on {end}") == CUT
    assert cut(f"A text that goes on {end}{' ' * 999}\n") == CUT
    assert cut(f"A text that goes on {end} and on.") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no full stop",
        "def f():\n    return [...]",
        "def f(x):\n    return x in [...]",
        "x = tuple[int, ...]",
        "logs.append('[truncated]')",
        "# the rest is truncated",
        "You should read more",
        "You should\nlearn and read more.",
        "She continued",
        "(he continued on foot until the evening, when the rain had stopped and the roads were dry again)",
        "array([1, 2, ...])",
        ">>> a\n[...]",
        "Usage: tool [options...]",
        "- item",
        "[truncated distribution]",
    ],
)
def test_not_truncated(text: str) -> None:
    """Code, lists, headings and ordinary sentences stay."""
    assert cut(text) is None


def test_code_files_are_kept() -> None:
    """Real source files stay with and without their last line end; a rule that wants a full stop drops nearly all."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [file.read_text(encoding="utf-8").rstrip() for file in files]
    assert len(texts) > 100
    assert [file.name for file, text in zip(files, texts, strict=True) if cut(text) or cut(text + "\n")] == []
    assert sum(not text.endswith((".", "!", "?", "\n")) for text in texts) > 0.9 * len(texts)


@pytest.mark.parametrize(
    ("text", "open_at_end"),
    [
        ("a\n```python\nx = 1\n```\n", False),
        ("a\n```python\nx = 1\n", True),
        ("a\n```python\nx = 1", True),
        ("```\na\n```\n```\nb\n", True),
        ("````\n```\n````\n", False),
        ("```\n````\n", False),
        ("````\n```\n", True),
        ("```\n```python\n", True),
        ("```yaml title=a.yaml\nx: 1\n```\nprose\n", False),
        ("   ```\nx\n   ```\n", False),
        ("    ```\nindented code\n", False),
        ("``` is a fence, `x` is code\n", False),
        ("in the middle ```\n", False),
        ("Heading\n~~~~~~~\n", False),
        ("``\nx\n", False),
    ],
)
def test_code_fences(text: str, open_at_end: bool) -> None:
    """A block is closed by as many backticks or more alone on a line, as CommonMark has it."""
    assert cut(text) == (FENCED if open_at_end else None)
    assert cut(text, code_fences=False) is None


def test_code_fences_of_this_project() -> None:
    """Every page of documentation here closes its blocks, and loses one when cut within it."""
    pages = [path.read_text(encoding="utf-8") for path in Path(__file__).parents[3].glob("docs/*.md")]
    assert len(pages) > 3
    for page in pages:
        assert cut(page) is None
        if "\n```" in page:
            assert cut(page[: page.index("\n", page.index("\n```") + 1) + 1]) == FENCED


def test_own_patterns() -> None:
    """Own patterns take the place of the usual ones, match at the end alone, and in any case of letters."""
    own = {"patterns": ["end of (?:sample|preview)", "x|y"]}
    assert cut("This is the End of Preview\n", **own) == CUT
    assert cut("ends in y", **own) == CUT
    assert cut("y is not the last", **own) is None
    assert cut("[truncated]", **own) is None
    assert cut("[truncated]", patterns=[]) is None
    assert cut("a" + "b" * 200, patterns=["ab+"]) is None, "only the last 200 characters are looked at"
    assert cut("a" + "b" * 199, patterns=["ab+"]) == CUT


BODY = base64.b64encode(bytes(range(200))).decode()
KEYS = {
    "a private key": [
        f"-----BEGIN {kind}-----\n{BODY}\n-----END {kind}-----"
        for kind in ("PRIVATE KEY", "RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "EC PRIVATE KEY")
    ]
    + [
        f'{{"key": "-----BEGIN PRIVATE KEY-----\\n{BODY}"}}',
        f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n{BODY}",
        f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 2\n\n{BODY}",
    ],
    "an AWS access key": ["AKIA" + "Q7" * 8, "ASIA" + "Z2" * 8],
    "a GitHub token": [f"gh{kind}_{LETTERS}aaaa" for kind in "pousr"]
    + [f"github_pat_{LETTERS[:22]}_{LETTERS * 2}"[:93]],
    "a Slack token": [
        f"xox{'b'}-123456789012-1234567890123-{LETTERS[:24]}",
        f"xox{'p'}-123456789012-123456789012-123456789012-{LETTERS}",
        f"xox{'e'}-1-{LETTERS * 4}",
        f"xap{'p'}-1-A012345678-1234567890123-{LETTERS * 2}",
        f"https://hooks.slack.com/{'services'}/T01234567/B01234567/{LETTERS[:24]}",
    ],
    "a Google API key or client secret": [f"AIza{LETTERS}-_x", f"GOCSPX-{LETTERS[:28]}"],
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in KEYS.items() for key in keys])
def test_secrets(name: str, key: str) -> None:
    """A key of a published form is found within any text; its name is told, and nothing of itself."""
    for text in (key, f"x\n{key}\n", f'key = "{key}"', f"a:{key},b"):
        assert secret(text) == f"holds {name}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "AKIA" + "Q7" * 9,
        "AKIA" + "q7" * 8,
        "XAKIA" + "Q7" * 8,
        "ghp_xxxx",
        f"ghp_{LETTERS}aaa",
        f"ghx_{LETTERS}aaaa",
        "xoxb-your-bot-token-goes-here-please",
        "https://hooks.slack.com/services/T/B/x",
        f"AIza{LETTERS}",
        f"AIza{LETTERS}-_x1",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        f"-----BEGIN PUBLIC KEY-----\n{BODY}\n-----END PUBLIC KEY-----",
        f"-----BEGIN CERTIFICATE-----\n{BODY}\n-----END CERTIFICATE-----",
    ],
)
def test_no_secrets(text: str) -> None:
    """Placeholders, public keys and what is a character too short or too long stay."""
    assert secret(text) is None


def test_secrets_chosen() -> None:
    """Only the kinds that are asked for are looked for."""
    key = KEYS["an AWS access key"][0]
    assert secret(key, kinds=["aws"]) == "holds an AWS access key"
    assert secret(key, kinds=["github", "slack", "google", "private_key"]) is None


def test_every_kind_of_secret_is_known() -> None:
    """The kinds that may be stated are those that have a form."""
    from ctxkit_filters.credentials import FORMS

    assert set(SecretsOptions(kind="secrets").kinds) == set(FORMS)
    assert {form.name for form in FORMS.values()} == set(KEYS)
