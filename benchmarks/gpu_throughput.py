"""One GPU: tokens/s and MFU of ctxkit against the plain TRL script, and the largest window that each can train.

A model of Llama-3-8B's shape with random weights, LoRA on all linear layers, bf16, one row a step. `trl` is SFTTrainer
with SFTConfig's defaults (but for the length, bf16 weights, and rows that are prepared already); `ctxkit` is `ctxkit
run` with the MLP in tiles. For windows `ctxkit` also offloads activations. A window is searched by doubling, then by
halving the rest, until it is known to a sixteenth. Every case is a process of its own and is written down when it ends;
the next call goes on with what is missing, so that no call need be longer than `--minutes`.

    python benchmarks/gpu_throughput.py --work /scratch/bench --minutes 9    # again, until it says that all is measured
    python benchmarks/gpu_throughput.py --work /tmp/bench --smoke            # a tiny model, on the CPU

MFU counts what training needs and not what is computed twice: a token takes 4 operations for each weight of a linear
layer (forward, and the gradient of its input; a frozen weight has none) and 6 x layers x width x tokens before it in
the causal attention, half of the row. Goals: 50 % MFU and 1.3 times the tokens/s of TRL at 32k; 4 times its window, and
400k tokens. Not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_inputs import LLAMA, LORA, TINY, Inputs, recipe, run_recipe, summary

RESULTS = Path(__file__).parent / "results" / "gpu_throughput.md"
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "B200": 2250e12}
"""Dense bf16 operations a second, by a part of the name that the driver has."""
LENGTHS = (8192, 32_768, 131_072)
STEPS = 4
FINE = 16
"""A window is known when the next step of the search is less than this part of it."""
GRAIN = 64
"""Windows that are tried are multiples of it."""
MOST_OF_IT = 0.8
"""A case that did not end is given up only if it had at least this part of a call."""
FROM, TO = 32_768, 1_048_576
"""Tokens between which windows are searched."""

BY_HAND = """
import json, sys, time
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

model, texts, output, tokens, steps, lora, cpu = json.loads(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(model)
rows = [tokenizer(json.loads(line)["text"]).input_ids + [tokenizer.eos_token_id] for line in open(texts)]
logged = []
class Log(TrainerCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
            logged.append({"loss": logs["loss"], "seconds": time.monotonic(), "peak_memory_bytes": peak,
                           "num_input_tokens_seen": state.global_step * tokens})
cpu_only = {"use_cpu": True, "bf16": False} if cpu else {}
trainer = SFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16), processing_class=tokenizer,
    train_dataset=Dataset.from_dict({"input_ids": rows}), callbacks=[Log()],
    peft_config=LoraConfig(task_type="CAUSAL_LM", **lora),
    args=SFTConfig(output_dir=output, max_length=tokens, max_steps=steps, per_device_train_batch_size=1,
                   logging_steps=1, save_strategy="no", report_to="none", disable_tqdm=True, **cpu_only),
)
trainer.train()
print(json.dumps(logged))
"""


class Bench:
    """The cases, and what is known of them."""

    def __init__(self, typed: argparse.Namespace) -> None:
        """Read what earlier calls measured."""
        self.smoke, self.work = typed.smoke, typed.work
        self.seconds = typed.minutes * 60
        self.ends = time.monotonic() + self.seconds
        self.inputs = Inputs(typed.work / ("tiny" if typed.smoke else "llama"), TINY if typed.smoke else LLAMA)
        self.state = typed.work / ("smoke.json" if typed.smoke else "gpu_throughput.json")
        self.known: dict[str, Any] = json.loads(self.state.read_text()) if self.state.exists() else {}
        self.lengths = (64, 128) if typed.smoke else LENGTHS
        self.window = (64, 256) if typed.smoke else (FROM, TO)

    def case(self, way: str, tokens: int, *, largest: bool) -> dict[str, Any]:
        """Return what is known of a way at a length; measure it where nothing is.

        Raises:
            TimeoutError: there is no time left to begin it.
        """
        key = f"{way}-{tokens}{'-largest' if largest else ''}"
        if key not in self.known:
            left = self.ends - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.inputs.make()
            measure = self._trl if way == "trl" else self._ctxkit
            found = measure(tokens, 1 if largest else STEPS, self.work / "runs" / key, largest=largest, limit=left)
            if str(found.get("failed")).startswith("longer") and left < self.seconds * MOST_OF_IT:
                raise TimeoutError  # it may well fit into a call of its own
            self.known[key] = found
            self.state.write_text(json.dumps(self.known, indent=1))
            print(f"{key}: {found.get('failed') or found.get('tokens_per_second') or 'trains'}", flush=True)
        return dict(self.known[key])

    def _ctxkit(self, tokens: int, steps: int, folder: Path, *, largest: bool, limit: float) -> dict[str, Any]:
        cpu = {"use_cpu": True} if self.smoke else {}
        train = {**cpu, **({"activation_offloading": True} if largest and not self.smoke else {})}
        patches = [{"kind": "tiled_mlp", "tile": 32 if self.smoke else 4096}]
        made = recipe(self.inputs, tokens, steps, 1, {"train": train, "patches": patches})
        return run_recipe(made, folder, [sys.executable, "-m", "ctxkit", "run", "{}"], limit)

    def _trl(self, tokens: int, steps: int, folder: Path, *, largest: bool, limit: float) -> dict[str, Any]:
        texts = self.inputs.texts(tokens, steps + 1)
        given = [str(self.inputs.model), str(texts), str(folder), tokens, steps, LORA, self.smoke]
        words = [sys.executable, "-c", BY_HAND, json.dumps(given)]
        try:
            done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=limit)
        except subprocess.TimeoutExpired:
            return {"failed": f"longer than {limit:.0f} s"}
        if done.returncode:
            if "out of memory" in done.stderr:
                return {"failed": "out of memory"}
            raise SystemExit(done.stderr)
        return summary(json.loads(done.stdout.splitlines()[-1]))

    def largest(self, way: str) -> int:
        """Return the most tokens that a way trains; 0 where it does not train the fewest that are tried."""
        fits, too_long, tokens = 0, None, self.window[0]
        while too_long is None and tokens <= self.window[1]:
            if "failed" in self.case(way, tokens, largest=True):
                too_long = tokens
            else:
                fits, tokens = tokens, tokens * 2
        while too_long is not None and fits and too_long - fits > max(fits // FINE, GRAIN):
            middle = (fits + too_long) // 2 // GRAIN * GRAIN
            if "failed" in self.case(way, middle, largest=True):
                too_long = middle
            else:
                fits = middle
        return fits


def operations(config: dict[str, Any], tokens: int) -> float:
    """Return the operations that a token of a row takes in training with frozen weights; see above."""
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    keys = width * config["num_key_value_heads"] // config["num_attention_heads"]
    linear = layers * (2 * width * width + 2 * width * keys + 3 * width * inner) + width * config["vocab_size"]
    return 4.0 * linear + 6.0 * layers * width * tokens


def page(bench: Bench, peak: float | None, device: str) -> str:
    """Return the page of results, measuring what is missing.

    Raises:
        TimeoutError: there is more to measure than there is time.
    """
    lines = ["# One GPU: throughput and window", "", f"`python benchmarks/gpu_throughput.py`, {device}.", ""]
    lines += [
        "| tokens of a row | TRL tokens/s | ctxkit tokens/s | ratio | TRL MFU | ctxkit MFU | TRL GiB | ctxkit GiB |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for tokens in bench.lengths:
        found = {way: bench.case(way, tokens, largest=False) for way in ("trl", "ctxkit")}
        rates = [found[way].get("tokens_per_second") for way in found]
        need = operations(dict(bench.inputs.config), tokens)
        cells = [found[way].get("failed") or f"{found[way]['tokens_per_second']:,.0f}" for way in found]
        cells += [f"{rates[1] / rates[0]:.2f}" if all(rates) else "-"]
        cells += [f"{rate * need / peak:.1%}" if rate and peak else "-" for rate in rates]
        cells += [f"{found[way].get('peak_bytes', 0) / 2**30:.1f}" for way in found]
        lines.append(f"| {tokens:,} | {' | '.join(cells)} |")
    windows = {way: bench.largest(way) for way in ("trl", "ctxkit")}
    times = windows["ctxkit"] / windows["trl"] if windows["trl"] else 0
    lines += ["", f"Largest window: TRL {windows['trl']:,} tokens, ctxkit {windows['ctxkit']:,}, {times:.1f} times."]
    goals = "Goals: at 32,768 tokens 50 % MFU and a ratio of 1.3; a window of 4 times that of TRL, and 400,000 tokens."
    return "\n".join([*lines, goals, ""])


def main() -> int:
    """Measure, as far as the time goes; return 75 where there is more to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="a folder with 40 GB of room, kept between calls")
    parser.add_argument("--minutes", type=float, default=9, help="after which no case is begun, and the last is ended")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 peak of the GPU, where its name is not known")
    parser.add_argument("--smoke", action="store_true", help="a tiny model on the CPU; prints the page")
    typed = parser.parse_args()
    if not (typed.smoke or torch.cuda.is_available()):
        print("gpu_throughput.py needs a GPU; --smoke tries it without one", file=sys.stderr)
        return 2
    typed.work.mkdir(parents=True, exist_ok=True)
    device = "the CPU, a smoke test" if typed.smoke else torch.cuda.get_device_name()
    peak = typed.peak_tflops * 1e12 if typed.peak_tflops else next((PEAKS[k] for k in PEAKS if k in device), None)
    try:
        text = page(Bench(typed), peak, device)
    except TimeoutError:
        print("there is more to measure: type the same again")
        return 75
    if not typed.smoke:
        RESULTS.write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
