"""Compare the kinds of RoPE scaling: on a model as it is, and after the same short fine-tune; by length, over seeds.

For every seed the base of `recipes/tiny_yarn.yaml` is trained anew (0.5 million parameters, window of 128 tokens), the
factors of LongRoPE are searched on it, and one recipe then measures it unscaled, scaled by every kind to 512 tokens
without training (stages of `max_steps: 0`), and after 60 steps on rows of 512 tokens, the same rows for all. Everything
is done by the commands of ctxkit; typed again, finished work is kept.

    python benchmarks/extension.py WORK --seeds 0,1,2,3,4 --write benchmarks/results

Figures are means over seeds with the 95 % interval of the mean by Student's t; differences are paired by seed.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
TARGET = 512
METHODS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "linear": {"kind": "linear", "target_length": TARGET},
    "ntk": {"kind": "ntk", "target_length": TARGET},
    "dynamic": {"kind": "dynamic", "target_length": TARGET},
    "theta": {"kind": "theta", "rope_theta": 500_000.0, "target_length": TARGET},
    "llama3": {"kind": "llama3", "target_length": TARGET},
    "yarn": {"kind": "yarn", "target_length": TARGET},
    "yarn-attention-1": {"kind": "yarn", "target_length": TARGET, "attention_factor": 1.0},
    "longrope": {"kind": "longrope", "target_length": TARGET},
}
ZERO_SHOT, TUNED = "as it is", "after 60 steps"
LENGTHS = (128, 256, 512, 1024)
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The 0.975 quantile of Student's t for 1 to 9 degrees of freedom."""
METRICS = {"perplexity_tail": "0-perplexity.json", "accuracy": "1-passkey.json"}


def main() -> None:
    """Do what is not done yet for every seed, then pool, print and write."""
    typed = _arguments()
    runs = [_runs_of(typed.work / f"seed-{seed}", seed) for seed in typed.seeds]
    table = {key: [_value(run, *key) for run in runs] for key in _keys()}
    page = _page(table, typed.seeds)
    print(page)
    if typed.write:
        figures = [
            {"method": method, "when": when, "metric": metric, "length": length, "values": values}
            for (method, when, metric, length), values in table.items()
        ]
        (typed.write / "extension.md").write_text(page, encoding="utf-8")
        held = {"seeds": typed.seeds, "figures": figures}
        (typed.write / "extension.json").write_text(json.dumps(held) + "\n", encoding="utf-8")
        _put_into_docs(_short(table, typed.seeds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for the runs, of about 250 MB a seed")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--write", type=Path, help="folder for extension.md and extension.json")
    return parser.parse_args()


def _runs_of(folder: Path, seed: int) -> Path:
    """Train the base of a seed, search its factors, run every method; return the run directory of the methods."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_load((ROOT / "recipes/tiny_yarn.yaml").read_text(encoding="utf-8"))
    recipe["train"]["seed"] = seed
    base = {**recipe, "name": f"base-{seed}", "stages": recipe["stages"][:2]}
    base["stages"][1]["evals"] = []
    _ctxkit("run", _written(base, folder / "base.yaml"), "--run-dir", folder / "base")
    methods = _written(_methods(recipe, folder), folder / "methods.yaml")
    _ctxkit("search-rope", methods, "--stage", "longrope")
    _ctxkit("run", methods, "--run-dir", folder / "methods")
    return folder / "methods"


def _methods(recipe: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the recipe that measures and trains every method from the base of one seed."""
    tuning = recipe["stages"][2]
    made = {key: recipe[key] for key in ("train", "evals")}
    made |= {"name": folder.name, "data": tuning["data"]}
    made["model"] = {"name_or_path": str(folder / "base/stages/base/model"), "dtype": "float32"}
    made["stages"] = []
    for name, rope in METHODS.items():
        scaled = copy.deepcopy(rope)
        if name == "longrope":
            text = {"kind": "files", "paths": ["{stdlib}/[a-r]*.py"]}
            search = {"source": text, "iterations": 10}
            scaled = {**(scaled or {}), "factors": str(folder / "factors.json"), "search": search}
        start = {"from": "model", "rope": scaled}
        if rope is not None:
            made["stages"].append({"name": f"{name}-as-it-is", **start, "train": {"max_steps": 0}})
        made["stages"].append({"name": name, **start, "train": tuning["train"]})
    made["result"] = "yarn"
    return made


def _written(recipe: dict[str, Any], file: Path) -> Path:
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


def _ctxkit(*arguments: object) -> None:
    """Run a command of ctxkit; stop here if it fails."""
    subprocess.run([sys.executable, "-m", "ctxkit", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def _keys() -> list[tuple[str, str, str, int]]:
    """Return method, when, metric and length in tokens of every figure."""
    return [
        (method, when, metric, length)
        for method in METHODS
        for when in (ZERO_SHOT, TUNED)
        for metric in METRICS
        for length in LENGTHS
    ]


def _value(run: Path, method: str, when: str, metric: str, length: int) -> float:
    """Return a figure of one run, as its eval wrote it."""
    untouched = "model" if method == "none" else f"{method}-as-it-is"
    stage = method if when == TUNED else untouched
    report = json.loads((run / "evals" / stage / METRICS[metric]).read_text(encoding="utf-8"))
    found = [
        item["value"]
        for item in report["measurements"]
        if (item["metric"], item["length"], item.get("depth")) == (metric, length, None)
    ]
    return float(found[0])


def _mean(values: list[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval by Student's t."""
    if len(values) == 1:
        return values[0], math.nan
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), spread * T95[len(values) - 2]


def _page(table: dict[tuple[str, str, str, int], list[float]], seeds: list[int]) -> str:
    """Return the tables and the paired differences as Markdown."""
    lines = [
        "# RoPE scaling, compared on a tiny model",
        "",
        f"Written by `python benchmarks/extension.py WORK --seeds {','.join(map(str, seeds))}`.",
        "A Llama of 0.5 million parameters with a window of 128 tokens, extended to 512;",
        f"mean of {len(seeds)} seeds ± half the 95 % interval of the mean.",
        "Perplexity is that of the last quarter of each text (bytes, 20 texts of 1,024, windows in steps of 128);",
        "passkey is the share of 200 keys of five digits given back whole.",
    ]
    for metric, title in (("accuracy", "Passkey, percent"), ("perplexity_tail", "Perplexity of the tail")):
        for when in (ZERO_SHOT, TUNED):
            lines += ["", f"## {title}, {when}", "", *_rows(table, metric, when)]
    return "\n".join([*lines, "", "## At 512 tokens, paired by seed", "", *_differences(table)]) + "\n"


def _rows(table: dict[tuple[str, str, str, int], list[float]], metric: str, when: str) -> list[str]:
    head = ["| method | " + " | ".join(f"{length:,}" for length in LENGTHS) + " |", "|---" * (len(LENGTHS) + 1) + "|"]
    for method in METHODS:
        cells = [_cell(metric, table[method, when, metric, length]) for length in LENGTHS]
        head.append(f"| {method} | " + " | ".join(cells) + " |")
    return head


def _cell(metric: str, values: list[float]) -> str:
    if metric == "accuracy":
        mean, half = _mean([100 * value for value in values])
        return f"{mean:.0f} ± {half:.0f}"
    mean, half = _mean(values)
    return f"{mean:.2f} ± {half:.2f}"


DOCS = ROOT / "docs/rope.md"
BORDERS = ("<!-- compared: written by benchmarks/extension.py -->", "<!-- end of compared -->")


def _short(table: dict[tuple[str, str, str, int], list[float]], seeds: list[int]) -> str:
    """Return the table for the docs: passkey and perplexity at the target, and what became of the old window."""
    columns = (("accuracy", TARGET), ("perplexity_tail", TARGET), ("accuracy", LENGTHS[0]))
    names = {"accuracy": "passkey, %", "perplexity_tail": "perplexity"}
    heads = [f"{names[metric]}, at {length}, {when}" for metric, length in columns for when in (ZERO_SHOT, TUNED)]
    lines = [f"Means of {len(seeds)} seeds ± half the 95 % interval of the mean.", ""]
    lines += ["| method | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for method in METHODS:
        cells = [
            _cell(metric, table[method, when, metric, length])
            for metric, length in columns
            for when in (ZERO_SHOT, TUNED)
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _put_into_docs(text: str) -> None:
    """Replace what stands between the borders."""
    page = DOCS.read_text(encoding="utf-8")
    before, _, rest = page.partition(BORDERS[0])
    after = rest.partition(BORDERS[1])[2]
    DOCS.write_text(f"{before}{BORDERS[0]}\n\n{text}\n\n{BORDERS[1]}{after}", encoding="utf-8")


PAIRS = (
    (("yarn", ZERO_SHOT), ("none", ZERO_SHOT), "what scaling does before any training"),
    (("yarn", ZERO_SHOT), ("ntk", ZERO_SHOT), "dimensions by parts, or all at once (Peng et al. 2023)"),
    (("ntk", ZERO_SHOT), ("linear", ZERO_SHOT), "fast dimensions kept, or slowed like the others"),
    (("yarn", ZERO_SHOT), ("yarn-attention-1", ZERO_SHOT), "what the attention factor is worth"),
    (("longrope", ZERO_SHOT), ("yarn", ZERO_SHOT), "what a search finds beyond YaRN (Ding et al. 2024)"),
    (("yarn", TUNED), ("none", TUNED), "what scaling does beyond the same training"),
    (("yarn", TUNED), ("linear", TUNED), "what is reached in the same few steps"),
    (("yarn", TUNED), ("yarn-attention-1", TUNED), "what is left of the attention factor after training"),
)


def _differences(table: dict[tuple[str, str, str, int], list[float]]) -> list[str]:
    """Return a row for each pair: points of passkey, and the ratio of perplexities."""
    rows = ["| first | second | passkey, points | perplexity, ratio | why |", "|---|---|---|---|---|"]
    for first, second, why in PAIRS:
        points = [
            100 * (a - b)
            for a, b in zip(table[*first, "accuracy", TARGET], table[*second, "accuracy", TARGET], strict=True)
        ]
        logs = [
            math.log(a / b)
            for a, b in zip(
                table[*first, "perplexity_tail", TARGET], table[*second, "perplexity_tail", TARGET], strict=True
            )
        ]
        (mean, half), (ratio, width) = _mean(points), _mean(logs)
        low, high = math.exp(ratio - width), math.exp(ratio + width)
        rows.append(
            f"| {first[0]}, {first[1]} | {second[0]}, {second[1]} | {mean:+.0f} ± {half:.0f} "
            f"| {math.exp(ratio):.2f} [{low:.2f}, {high:.2f}] | {why} |"
        )
    return rows


if __name__ == "__main__":
    main()
