"""Write what RULER's own scripts give: prompts, answers and scores, which the tests compare ours with.

    git clone https://github.com/NVIDIA/RULER
    python benchmarks/ruler_reference.py RULER tests/unit/plugins/ruler_reference.json

Its scripts run as they are, with four things put in their place: the tokenizer counts pieces of words, so that no
download is needed; the essays are a text made here; sentences are told apart by our rule instead of nltk's; and the
list of words for more than wonderwords has, of which a clone without Git LFS has none, is empty.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import random
import re
import runpy
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import yaml

from ctxkit_evals.ruler.niah import sentences

PIECES = re.compile(r" ?\w{1,4}|\W")
"""The tokens of the tokenizer."""
RUNS = ((2048, "base"), (4096, "base"), (3000, "meta-chat"))
"""Lengths and templates of RULER. At 1,024 tokens it never ends with its essay tasks: 500 words are the fewest."""
SAMPLES = 4
SEED = 42
OFFLINE = re.compile(r"niah|vt|cwe|fwe")


def main(clone: Path, output: Path) -> None:
    """Run every task at every length, score made-up outputs, and write both with the commit."""
    git = ["git", "-C", str(clone)]
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        scripts = Path(folder) / "scripts"
        archive = subprocess.Popen([*git, "archive", commit, "scripts"], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], stdin=archive.stdout, check=True)
        _put_in_place(scripts / "data" / "synthetic" / "json")
        found = {
            "repository": "https://github.com/NVIDIA/RULER",
            "commit": commit,
            "wonderwords": importlib.metadata.version("wonderwords"),
            "prompts": [case for run in RUNS for case in _prompts(scripts, *run)],
            "scores": _scores(scripts),
        }
    lines = json.dumps(found, ensure_ascii=False).replace('{"task"', '\n{"task"').replace('{"metric"', '\n{"metric"')
    output.write_text(lines + "\n", encoding="utf-8")


def essays() -> str:
    """Return a text of sentences."""
    chance = random.Random("essays")
    words = ["time", "and", "the", "river", "of", "long", "work", '"well"', "never", "(so)", "a", "house"]
    return "\n".join(
        " ".join(chance.choices(words, k=chance.randint(3, 20))).capitalize() + chance.choice([".", "!", "?", '."'])
        for _ in range(900)
    )


def _put_in_place(folder: Path) -> None:
    (folder / "PaulGrahamEssays.json").write_text(json.dumps({"text": essays()}), encoding="utf-8")
    (folder / "english_words.json").write_text("{}", encoding="utf-8")
    counter = types.SimpleNamespace(text_to_tokens=PIECES.findall)
    sys.modules["tokenizer"] = _module(select_tokenizer=lambda *_: counter)
    sys.modules["nltk.tokenize"] = _module(sent_tokenize=sentences)


def _module(**names: Any) -> types.ModuleType:
    module = types.ModuleType("stand-in")
    vars(module).update(names)
    return module


def _prompts(scripts: Path, length: int, template: str) -> list[dict[str, Any]]:
    """Run the script of each task as RULER's `prepare.py` does."""
    data = scripts / "data" / "synthetic"
    around = runpy.run_path(str(data.parent / "template.py"))["Templates"][template]
    frame = around.split("{task_template}")
    base = runpy.run_path(str(data / "constants.py"))["TASKS"]
    tasks = yaml.safe_load((scripts / "synthetic.yaml").read_text(encoding="utf-8"))
    cases = []
    for name in filter(OFFLINE.match, tasks):
        task = {**tasks[name], **base[tasks[name]["task"]]}
        samples = _run(data, name, {**task, "template": around.format(task_template=task["template"])}, length)
        cases.append({"task": name, "length": length, "frame": frame, "samples": samples})
    return cases


def _run(data: Path, name: str, task: dict[str, Any], length: int) -> list[dict[str, Any]]:
    options = {
        "save_dir": data, "save_name": name, "tokenizer_path": "none", "max_seq_length": length,
        "tokens_to_generate": task["tokens_to_generate"], "num_samples": SAMPLES, "random_seed": SEED,
        **task["args"], "template": task["template"] + task["answer_prefix"],
    }  # fmt: skip
    sys.argv = ["script", *(str(part) for key, value in options.items() for part in (f"--{key}", value))]
    sys.path.insert(0, str(data))
    runpy.run_path(str(data / f"{task['task']}.py"), run_name="__main__")
    rows = [json.loads(line) for line in (data / name / "validation.jsonl").read_text(encoding="utf-8").splitlines()]
    return [_row(row["input"] + row["answer_prefix"], row["outputs"], row["length"]) for row in rows]


def _row(prompt: str, answers: list[str], length: int) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(prompt.encode()).hexdigest(), "answers": answers, "length": length}


def _scores(scripts: Path) -> list[dict[str, Any]]:
    """Score made-up outputs by RULER's own functions, after its own cleaning."""
    metrics = runpy.run_path(str(scripts / "eval" / "synthetic" / "constants.py"))
    source = (scripts / "eval" / "evaluate.py").read_text(encoding="utf-8")
    # The module imports NeMo; one function of it is all that is needed.
    cleaning = source[source.index("def postprocess_pred") : source.index("def get_pred_and_ref")]
    names: dict[str, Any] = {"re": re}
    exec(cleaning, names)  # noqa: S102 - the clone is run anyway
    cases = []
    for group in _made_up():
        outputs = [names["postprocess_pred"](output, {}) for output, _ in group]
        score = metrics["string_match_all"](outputs, [answers for _, answers in group])
        cases.append({"metric": "string_match_all", "outputs": group, "cleaned": outputs, "score": score})
    return cases


def _made_up() -> list[list[tuple[str, list[str]]]]:
    """Return groups of outputs with their answers: none, some or all of them held, in other cases and with controls."""
    chance = random.Random("outputs")
    groups = []
    for size in [1] * 20 + [3, 5, 7, 11] * 5:
        group = []
        for _ in range(size):
            answers = ["".join(chance.choices("aBcé1-", k=chance.randint(1, 4))) for _ in range(chance.randint(1, 5))]
            held = chance.sample(answers, chance.randint(0, len(answers)))
            parts = [chance.choice([part.upper(), part.lower(), part + "\x00", f"\t{part}"]) for part in held]
            group.append(
                (chance.choice(["", " \n", "\x0c "]) + chance.choice([", ", " ", "\x1f"]).join(parts), answers)
            )
        groups.append(group)
    return groups


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
