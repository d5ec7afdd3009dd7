"""Compare a training through `ctxkit run` with the same training in a script written by hand with TRL.

Both train the base stage of `recipes/tiny_yarn.yaml` from the same rows, alternating, each in a process of its own.
Printed are the ratios of training time (the trainer's own `train_runtime`) and of wall time, pair by pair, and whether
the losses are equal. The numerator is ctxkit. Prepared data is copied in: the script by hand has no data path.

    python benchmarks/overhead.py --steps 100 --pairs 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]

BY_HAND = textwrap.dedent(
    """
    import json, sys
    from datasets import Dataset
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, TrainerCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    data, tokenizer, output, steps = sys.argv[1:5]
    rows = Dataset.load_from_disk(data)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    set_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=128, tie_word_embeddings=True, bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    ))
    losses = []
    class Losses(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            losses.extend([logs["loss"]] if "loss" in logs else [])
    trainer = SFTTrainer(
        model=model, train_dataset=rows, processing_class=tokenizer, callbacks=[Losses()],
        args=SFTConfig(
            output_dir=f"{output}/checkpoints", use_cpu=True, bf16=False, activation_checkpointing=False, seed=0,
            max_steps=int(steps), per_device_train_batch_size=32, learning_rate=1e-3, lr_scheduler_type="cosine",
            warmup_steps=10, weight_decay=0.0, logging_steps=10, save_steps=50, save_total_limit=2, max_length=128,
            dataset_kwargs={"skip_prepare_dataset": True}, disable_tqdm=True,
        ),
    )
    result = trainer.train()
    trainer.save_model(f"{output}/model")
    json.dump({"losses": losses, "train_runtime": result.metrics["train_runtime"]}, open(f"{output}/result.json", "w"))
    """
)


def main() -> None:
    """Run the pairs and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder) / "warm"
        ours(warm, 1, None)
        write_plain(warm)
        pairs = []
        for number in range(options.pairs):
            first, second = (ours, by_hand) if number % 2 == 0 else (by_hand, ours)
            results = {
                run.__name__: run(Path(folder) / f"{number}-{run.__name__}", options.steps, warm)
                for run in (first, second)
            }
            pairs.append((results["ours"], results["by_hand"]))
            show(number, *pairs[-1])
    for name in ("train_runtime", "wall"):
        ratios = sorted(a[name] / b[name] for a, b in pairs)
        spread = f"[{ratios[0]:.3f}, {ratios[-1]:.3f}], n = {len(ratios)}"
        print(f"{name}: ctxkit / by hand, median {statistics.median(ratios):.3f} {spread}")
    print("losses equal, number for number:", all(a["losses"] == b["losses"] for a, b in pairs))


def ours(run_dir: Path, steps: int, warm: Path | None) -> dict:
    """Train through ctxkit, on data prepared before where there is some."""
    import shutil

    recipe = run_dir.with_suffix(".yaml")
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(base_stage(steps))
    if warm is not None:
        for part in ("data", "tokenizer"):
            shutil.copytree(warm / part, run_dir / part)
    command = [sys.executable, "-m", "ctxkit", "run", str(recipe), "--run-dir", str(run_dir)]
    wall = timed(command)
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    return {"losses": losses, "train_runtime": lines[-1]["train_runtime"], "wall": wall}


def write_plain(run_dir: Path) -> None:
    """Write the rows of a run out as a script would have them, ids and labels side by side."""
    from datasets import Dataset

    from ctxkit.train.rows import open_rows

    (key,) = json.loads((run_dir / "data.json").read_text())["stages"].values()
    prepared = open_rows(run_dir / "data" / key)
    rows = [{name: ids.tolist() for name, ids in row.items()} for row in prepared.train]
    Dataset.from_list(rows).save_to_disk(run_dir / "plain")


def by_hand(run_dir: Path, steps: int, warm: Path | None) -> dict:
    """Train by the script."""
    run_dir.mkdir(parents=True)
    wall = timed(
        [sys.executable, "-c", BY_HAND, str(warm / "plain"), str(warm / "tokenizer"), str(run_dir), str(steps)]
    )
    return {**json.loads((run_dir / "result.json").read_text()), "wall": wall}


def base_stage(steps: int) -> str:
    """Return the base stage of the tiny recipe alone, without evals."""
    import yaml

    recipe = yaml.safe_load((ROOT / "recipes/tiny_yarn.yaml").read_text())
    stage = next(stage for stage in recipe["stages"] if stage["name"] == "base")
    stage["train"] |= {"max_steps": steps, "learning_rate": 0.001}
    recipe |= {"stages": [stage], "evals": []}
    return yaml.safe_dump(recipe)


def timed(command: list[str]) -> float:
    """Run a command offline and return its wall time in seconds."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return time.perf_counter() - began


def show(number: int, a: dict, b: dict) -> None:
    """Print one pair."""
    print(
        f"pair {number}: training {a['train_runtime']:.2f} s / {b['train_runtime']:.2f} s, "
        f"wall {a['wall']:.2f} s / {b['wall']:.2f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
