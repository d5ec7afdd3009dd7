"""Kill a run at random moments, type it again until it is done, and compare it with one that nothing happened to.

Every attempt is `ctxkit run` in processes of its own, forked from this one, which has loaded the training libraries
(`--cold` starts each from nothing). A kill is SIGKILL, aimed at a phase that is drawn: while data is prepared, in a
step, while a checkpoint or a model is written, in an eval, or at any time. Compared to the last bit are the weights of
every stage, the loss of every step, every eval, and the ledger of the data. The goal is no mismatch.

    python benchmarks/chaos.py --kills 24 --seed 0 --write benchmarks/results/chaos.md
"""

from __future__ import annotations

import os

# Before a library looks at them; the report is no part of what is compared.
os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
os.environ["CTXKIT_DISABLE_PLUGINS"] = "report"

import argparse
import json
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RECIPE = """\
name: chaos
model:
  config: {model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 2, num_attention_heads: 2,
           num_key_value_heads: 2, max_position_embeddings: 32, tie_word_embeddings: true, attention_dropout: 0.1,
           rope_parameters: {rope_type: default, rope_theta: 10000.0}}
tokenizer: {train: {vocab_size: 258}}
train: {bf16: false, activation_checkpointing: false, per_device_train_batch_size: 2, learning_rate: 1.0e-2,
        logging_steps: 1, save_steps: 2, save_total_limit: 2, seed: 3}
evals:
  - {kind: passkey, haystack: &text {kind: repeats, documents: 40, length: 200}, lengths: [32, 64], samples: 2,
     depths: [0.0, 1.0], needle: " k={key};", question: " k="}
  - {kind: perplexity, source: *text, lengths: [16, 64], windows: 4}
stages:
  - name: base
    data: {sources: [{kind: repeats, documents: 600, length: 31}], chunker: {kind: overlap, length: 32}}
    train: {max_steps: 8, per_device_train_batch_size: 4}
  - name: phased
    rope: {kind: yarn, factor: 2}
    data: &long {sources: [{kind: repeats, documents: 600, length: 100}],
                 chunker: {kind: overlap, length: 64, overlap: 8}}
    curriculum: {kind: phases, phases: [{name: short, steps: 3, most: 64}, {name: all, steps: 5}]}
  - name: last
    rope: {kind: yarn, factor: 4}
    data: *long
    train: {max_steps: 4}
"""
VARIANTS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "LoRA": tuple(
        f"stages.{name}.adapter={{r: 4, target_modules: [q_proj, v_proj], lora_dropout: 0.1}}"
        for name in ("phased", "last")
    ),
    "packing": ("stages.base.data.packing={length: 64}", "stages.last.data.packing={length: 128}"),
    "accumulation": ("train.gradient_accumulation_steps=3",),
    "two processes": (),
    "damage": ("train.save_total_limit=3",),
}
"""What each sets; with two processes, one of them or both are killed; damage spoils a file of the newest checkpoint."""
AIMS = ("data", "step", "save", "eval", "any")
PATIENCE_SECONDS = 120.0
OTHERS_SECONDS = 3.0
"""How long a process outlives another that was killed, before it is ended as a launcher would."""


@dataclass
class Tally:
    """What came of a variant."""

    kills: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    spoilt: int = 0
    set_aside: int = 0
    compared: Counter[str] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)


@dataclass
class Chaos:
    """Runs of one recipe, some of them killed."""

    folder: Path
    cold: bool
    draw: random.Random

    def attempt(self, variant: str, directory: Path) -> list[int]:
        """Start a run; return the ids of its processes."""
        sets = [word for text in VARIANTS[variant] for word in ("--set", text)]
        words = ["run", str(self.folder / "chaos.yaml"), "--run-dir", str(directory), *sets]
        count = 2 if variant == "two processes" else 1
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            ranks = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1]), "WORLD_SIZE": str(count)}
        envs: list[dict[str, str]] = [{}] if count == 1 else [
            {**ranks, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)
        ]  # fmt: skip
        with (self.folder / "log.txt").open("a") as log:
            return [self._started(words, env, log.fileno()) for env in envs]

    def _started(self, words: list[str], env: dict[str, str], log: int) -> int:
        if self.cold:
            line = [sys.executable, "-m", "ctxkit", *words]
            return subprocess.Popen(line, stdout=log, stderr=log, env={**os.environ, **env}).pid
        if pid := os.fork():
            return pid
        code = 1
        try:
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ.update(env)
            from ctxkit.cli import main

            sys.argv = ["ctxkit", *words]
            code = main(words)
        finally:
            os._exit(code)

    def finish(self, variant: str, directory: Path) -> list[str]:
        """Run to the end; return how it failed, or nothing."""
        codes = ended(self.attempt(variant, directory), PATIENCE_SECONDS)
        said = (self.folder / "log.txt").read_text().splitlines()[-20:]
        return [f"{variant}: exit codes {codes}", *said] if any(codes) else []

    def kill(self, pids: Sequence[int], variant: str, directory: Path) -> str | None:
        """Kill a run at a moment of a phase that is drawn; return the phase, or None where it ended before."""
        aim, later = self.draw.choice(AIMS), self.draw.random()
        wanted = self._moment(aim, directory)
        alive = set(pids)
        while not wanted():
            alive -= set(gone(alive))
            if len(alive) < len(pids):
                ended(alive, OTHERS_SECONDS)
                return None
            time.sleep(0.0005)
        time.sleep(later * (0.004 if aim == "save" else 0.03))
        hit = phase(directory)
        for pid in self._victims(pids):
            os.kill(pid, signal.SIGKILL)
        codes = ended(alive, OTHERS_SECONDS)
        return hit if -signal.SIGKILL in codes else None

    def _moment(self, aim: str, directory: Path) -> Callable[[], bool]:
        """Return what becomes true in a phase, or at any time; a phase that is past is waited for in vain."""
        if aim == "any":
            at = time.monotonic() + self.draw.random() * (40 if self.cold else 5)
            return lambda: time.monotonic() > at
        left = self.draw.randrange(1, 4)
        seen = [left, False]

        def reached() -> bool:
            there = phase(directory) == aim
            if there and not seen[1]:
                seen[0] -= 1
            seen[1] = there
            return there and seen[0] <= 0

        return reached

    def _victims(self, pids: Sequence[int]) -> list[int]:
        return list(pids) if self.draw.random() < 1 / len(pids) else [self.draw.choice(list(pids))]

    def spoil(self, directory: Path) -> int:
        """Cut or zero a random file of the newest checkpoint of a stage; return how many were spoilt."""
        newest = sorted(
            directory.glob("stages/*/checkpoints/checkpoint-*/ctxkit.json"), key=lambda p: p.stat().st_mtime
        )
        files = sorted(path for path in newest[-1].parent.iterdir() if path.is_file()) if newest else []
        if not files or (newest[-1].parents[2] / "stage.json").exists():
            return 0
        file = self.draw.choice(files)
        size = file.stat().st_size
        if self.draw.random() < 0.5:
            os.truncate(file, self.draw.randrange(size))
        else:
            at = self.draw.randrange(max(size - 64, 1))
            content = file.read_bytes()
            file.write_bytes(content[:at] + bytes(min(64, size - at)) + content[at + 64 :])
        return 1


def phase(directory: Path) -> str:
    """Return what a run is doing, by what it has written."""
    stages = directory / "stages"
    if any(directory.glob("stages/*/model.tmp")) or _unsealed(stages):
        return "save"
    done = {path.parent.name for path in stages.glob("*/stage.json")}
    begun = {path.parents[1].name for path in stages.glob("*/checkpoints/begun.json")}
    if begun - done:
        return "step"
    return "eval" if any(not (stages / name / "finished").exists() for name in done) else "data"


def _unsealed(stages: Path) -> bool:
    checkpoints = stages.glob("*/checkpoints/checkpoint-*")
    return any(not (path / "ctxkit.json").exists() for path in checkpoints)


def gone(pids: Sequence[int] | set[int]) -> dict[int, int]:
    """Return the exit status of the processes that have ended; negative is a signal."""
    found = {}
    for pid in pids:
        who, status = os.waitpid(pid, os.WNOHANG)
        if who:
            found[pid] = os.waitstatus_to_exitcode(status)
    return found


def ended(pids: Sequence[int] | set[int], patience: float) -> list[int]:
    """Wait for processes, and end those that wait for one that is dead; return how each ended."""
    left, deadline = set(pids), time.monotonic() + patience
    codes: list[int] = []
    while left:
        found = gone(left)
        codes += found.values()
        left -= found.keys()
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            deadline = float("inf")
        time.sleep(0.01)
    return codes


def differences(directory: Path, other: Path, tally: Tally) -> Iterator[str]:
    """Yield how a run differs from another, and count what was compared."""
    from safetensors.torch import load_file

    for file in sorted(other.glob("stages/*/model/*.safetensors")):
        name = str(file.relative_to(other))
        ours, theirs = load_file(directory / name), load_file(file)
        tally.compared["tensors"] += len(theirs)
        if ours.keys() != theirs.keys() or any(not ours[key].equal(theirs[key]) for key in theirs):
            yield f"weights of {name}"
    for what, read in (("losses", _losses), ("evals", _evals), ("ledgers", _ledgers)):
        ours, theirs = read(directory), read(other)
        tally.compared[what] += len(theirs)
        yield from (f"{what}: {key}" for key in {**theirs, **ours} if ours.get(key) != theirs.get(key))


def _losses(directory: Path) -> dict[str, Any]:
    lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
    return {f"{line['stage']} {line['step']}": (line["loss"], line["grad_norm"]) for line in lines if "loss" in line}


def _evals(directory: Path) -> dict[str, Any]:
    return {str(path.relative_to(directory)): json.loads(path.read_text()) for path in directory.glob("evals/*/*.json")}


def _ledgers(directory: Path) -> dict[str, Any]:
    stages = json.loads((directory / "data.json").read_text())["stages"]
    manifests = {
        name: json.loads((directory / "data" / key / "manifest.json").read_text()) for name, key in stages.items()
    }
    kept = ("train", "ledger", "sources", "mix", "files", "largest_id")
    records = {path.parent.name: json.loads(path.read_text()) for path in directory.glob("stages/*/stage.json")}
    found = {f"data of {name}": {key: made.get(key) for key in kept} for name, made in manifests.items()}
    counts = ("steps", "tokens", "total_flos", "parameters", "curriculum")
    for record in records.values():
        for line in (record.get("curriculum") or {}).get("phases", []):
            line.pop("seconds", None)
            line.pop("tokens_per_second", None)
    return found | {f"stage {name}": {key: made.get(key) for key in counts} for name, made in records.items()}


def tried(chaos: Chaos, variant: str, kills: int, a_round: int) -> Tally:
    """Kill runs of a variant so many times, each to its end after some of them, and compare every one."""
    tally, whole, number = Tally(), chaos.folder / f"{variant}-whole", 0
    tally.mismatches += chaos.finish(variant, whole)
    while sum(tally.kills.values()) < kills and not tally.mismatches:
        number += 1
        directory = chaos.folder / f"{variant}-{number}"
        for _ in range(min(a_round, kills - sum(tally.kills.values()))):
            tally.attempts += 1
            hit = chaos.kill(chaos.attempt(variant, directory), variant, directory)
            if hit is None:
                break
            tally.kills[hit] += 1
            tally.spoilt += chaos.spoil(directory) if variant == "damage" else 0
        tally.attempts += 1
        tally.mismatches += chaos.finish(variant, directory) or differences(directory, whole, tally)
        tally.set_aside += len(list(directory.glob("stages/*/checkpoints/rejected-*")))
        shutil.rmtree(directory)
    return tally


def table(found: dict[str, Tally], line: str, seconds: float) -> str:
    """Return the tallies as Markdown."""
    head = [
        "# Runs that were killed, against runs that nothing happened to",
        "",
        f"Written by `{line}` in {seconds / 60:.0f} minutes.",
        "Each kill is SIGKILL; the same command was typed again until the run was done.",
        "Compared to the last bit: the weights of every stage, the loss and gradient norm of every step, every eval,",
        "and the ledger of the data.",
        "",
        "| variant | kills | data | step | save | eval | attempts | files spoilt | set aside | compared | mismatches |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*head, *(_row(name, tally) for name, tally in found.items())]) + "\n"


def _row(name: str, tally: Tally) -> str:
    phases = [tally.kills[each] for each in AIMS[:-1]]
    compared = ", ".join(f"{count} {what}" for what, count in tally.compared.items())
    cells = [name, sum(phases), *phases, tally.attempts, tally.spoilt, tally.set_aside, compared, len(tally.mismatches)]
    return f"| {' | '.join(map(str, cells))} |"


def main() -> int:
    """Kill, compare, print; return 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24, help="of each variant that says no number of its own")
    parser.add_argument("--round", type=int, default=6, help="kills of one run before it may end")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="NAME or NAME:KILLS, with commas between")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cold", action="store_true", help="start every attempt in a fresh interpreter")
    parser.add_argument("--write", type=Path, help="where the table goes")
    given = parser.parse_args()
    began = time.monotonic()
    if not given.cold:
        import ctxkit.train  # noqa: F401 - the processes that are forked have it then
    found = {}
    with tempfile.TemporaryDirectory(prefix="ctxkit-chaos-") as folder:
        (Path(folder) / "chaos.yaml").write_text(RECIPE, encoding="utf-8")
        for variant, _, kills in (each.partition(":") for each in given.variants.split(",")):
            chaos = Chaos(Path(folder), given.cold, random.Random(f"{given.seed} {variant}"))
            found[variant] = tried(chaos, variant, int(kills or given.kills), given.round)
            print(_row(variant, found[variant]), *found[variant].mismatches, sep="\n  ", flush=True)
    made = table(found, shlex.join(["python", "benchmarks/chaos.py", *sys.argv[1:]]), time.monotonic() - began)
    print(made)
    if given.write:
        given.write.write_text(made, encoding="utf-8")
    return int(any(tally.mismatches for tally in found.values()))


if __name__ == "__main__":
    sys.exit(main())
