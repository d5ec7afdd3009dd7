"""What `data.py` measures, each in a fresh process: set up first, then work, of which CPU seconds and memory are taken.

python benchmarks/data_tasks.py TASK JOB.json RESULT.json
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))  # it may be loaded by its path

from data_inputs import Corpus, encode

Job = dict[str, Any]
"""What a task is told; `corpus` and `folder`, an empty one of its own, always. With `one_core` it shares one core with
all that it starts."""
Work = Callable[[], Any]
Facts = Callable[[Any], dict[str, Any]]
"""What to report of the outcome of the work; not measured."""
Task = Callable[[Job], tuple[Work, Facts]]

WINDOW, THRESHOLD = 50, 0.8
"""Of the repetition tests."""
SIGNATURE, SHINGLE = 128, 5
"""Values of a MinHash signature, and tokens of an n-gram."""
TINY = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
"""A model for those that want one before they prepare data."""
REGULAR = (0o100644, 0o100755)
"""Modes of files in git, symbolic links and submodules left out."""


@dataclass(frozen=True)
class Measure:
    """One measurement."""

    cpu_seconds: float
    """User and system time, of finished child processes too."""
    peak_bytes: int
    """Largest resident memory while at work, what the interpreter and its libraries hold included."""
    growth_bytes: int
    """How much of it came with the work."""
    child_bytes: int
    """Largest resident memory of a child process."""
    facts: dict[str, Any]


def measured(task: Task, job: Job) -> Measure:
    """Set a task up, do its work, and say what it took."""
    work, facts = task(job)
    gc.collect()
    before, cpu = _fresh_peak(), _cpu_seconds()
    outcome = work()
    cpu = _cpu_seconds() - cpu
    peak = _status("VmHWM")
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return Measure(cpu, peak, peak - before, child, facts(outcome))


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _fresh_peak() -> int:
    """Return the resident memory now, in bytes, and let Linux count the peak from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


# Rows


def ctxkit_rows(job: Job) -> tuple[Work, Facts]:
    """Prepare the rows of a data section, as a recipe states it, from text to what is trained on."""
    from ctxkit.host import Host
    from ctxkit.recipe import DataSection
    from ctxkit.registry import collect
    from ctxkit.spec import Context
    from ctxkit.train.data import build_dataset
    from ctxkit.train.keys import data_keys

    corpus = Corpus(Path(job["corpus"]))
    section = DataSection.model_validate(job["data"], context=collect(Host()).context)
    context = Context(tokenizer=corpus.load_tokenizer(), seed=0)
    folder = Path(job["folder"]) / "data"

    def work() -> Any:
        return build_dataset(section, context, folder, data_keys(section, context, corpus.tokenizer))

    return work, lambda made: _row_facts(made.manifest["train"], made.manifest["sources"], _disk(folder))


def _row_facts(made: dict[str, Any], ledgers: list[dict[str, Any]], disk: int) -> dict[str, Any]:
    return {
        "rows": made["rows"],
        "tokens": made["tokens"],
        "efficiency": made["efficiency"],
        "tokens_read": sum(ledger["tokens_read"] for ledger in ledgers),
        "disk_bytes": disk,
    }


def trl_rows(job: Job) -> tuple[Work, Facts]:
    """Let TRL's SFTTrainer tokenise and pack the same texts, from Arrow; its caches stay in the folder."""
    import shutil

    from datasets import Dataset
    from transformers import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    corpus, folder = Corpus(Path(job["corpus"])), Path(job["folder"])
    copy = folder / "corpus.arrow"
    shutil.copy(corpus.arrow, copy)
    dataset, tokenizer = Dataset.from_file(str(copy)), corpus.load_tokenizer()
    args = SFTConfig(
        output_dir=str(folder / "trainer"),
        max_length=job["length"],
        packing=True,
        packing_strategy=job["strategy"],
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **TINY)),
        args=args,
        train_dataset=Dataset.from_list([{"text": "a text, so that there is a trainer"}]),
        processing_class=tokenizer,
    )
    before = _disk(folder)

    def work() -> Any:
        return trainer._prepare_dataset(dataset, tokenizer, args, args.packing, None, "train")  # noqa: SLF001

    def facts(made: Any) -> dict[str, Any]:
        lengths = [len(ids) for ids in made.with_format("numpy")["input_ids"]]
        return {
            "rows": len(lengths),
            "tokens": sum(lengths),
            "efficiency": sum(lengths) / (len(lengths) * job["length"]),
            "disk_bytes": _disk(folder) - before,
        }

    return work, facts


def axolotl_rows(job: Job) -> tuple[Work, Facts]:
    """Run `axolotl preprocess` on the same texts; it packs when it trains, so that rows are documents here."""
    from axolotl.cli.preprocess import do_cli
    from transformers import LlamaConfig

    corpus, folder = Corpus(Path(job["corpus"])), Path(job["folder"])
    tokenizer = corpus.load_tokenizer()
    tokenizer.save_pretrained(folder / "model")
    LlamaConfig(vocab_size=len(tokenizer), **TINY).save_pretrained(folder / "model")
    config = {
        "base_model": str(folder / "model"),
        "datasets": [{"path": str(corpus.lines), "ds_type": "json", "type": "completion", "field": "text"}],
        "dataset_prepared_path": str(folder / "prepared"),
        "output_dir": str(folder / "out"),
        "sequence_len": job["length"],
        "sample_packing": True,
        "micro_batch_size": 1,
        "num_epochs": 1,
        "learning_rate": 1e-5,
        "optimizer": "adamw_torch",
        "bf16": False,
        "dataset_num_proc": 1,
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    sys.argv = ["preprocess"]

    def work() -> None:
        do_cli(str(folder / "config.yaml"))

    def facts(_: None) -> dict[str, Any]:
        from importlib.metadata import version

        from datasets import load_from_disk

        made = load_from_disk(str(next(path.parent for path in folder.glob("prepared/*/dataset_info.json"))))
        tokens = sum(len(ids) for ids in made.with_format("numpy")["input_ids"])
        return {"tokens": tokens, "disk_bytes": _disk(folder / "prepared"), "version": version("axolotl")}

    return work, facts


def encoded_alone(job: Job) -> tuple[Work, Facts]:
    """Encode the same texts by the `tokenizers` library and do nothing with the ids."""
    corpus = Corpus(Path(job["corpus"]))
    texts, backend = corpus.texts, corpus.load_backend()
    return lambda: sum(len(ids) for ids in encode(backend, texts)), lambda tokens: {"tokens": tokens}


def _disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# Repetition


def planted(window: int = WINDOW) -> dict[str, tuple[bool, list[int]]]:
    """Return documents, and whether each repeats itself: periods 7 and 50, a copied block, and none."""
    generator = np.random.default_rng(0)

    def drawn(count: int) -> list[int]:
        return generator.integers(0, 32000, count).tolist()

    block = drawn(3000)
    return {
        "period 7": (True, drawn(7) * 1000),
        f"period {window}": (True, drawn(window) * 150),
        "copied block of 3,000": (True, [*drawn(500), *block, *drawn(1000), *block, *drawn(500)]),
        "random": (False, drawn(8000)),
    }


def scan(tokens: list[int], window: int = WINDOW, threshold: float = THRESHOLD) -> bool:
    """Compare each window with the one behind it, place by place in Python: the plain way to look for repetition."""
    for i in range(len(tokens) - window * 2):
        chunk1 = tokens[i : i + window]
        chunk2 = tokens[i + window : i + window * 2]
        similarity = sum(a == b for a, b in zip(chunk1, chunk2, strict=True)) / window
        if similarity > threshold:
            return True
    return False


def scanned(job: Job) -> tuple[Work, Facts]:
    """Judge documents by the scan."""
    documents = [ids.tolist() for ids in _documents(job)]
    return lambda: sum(map(scan, documents)), lambda found: _verdicts(found, scan)


def filtered(job: Job) -> tuple[Work, Facts]:
    """Judge documents by a filter of ctxkit: `repetition`, or `repeated_window`, the same test as the scan."""
    from ctxkit.host import Host
    from ctxkit.registry import collect
    from ctxkit.spec import Context, Document, EncodedDocument

    options = collect(Host()).components["filter"][job["filter"]["kind"]](**job["filter"])
    judge = options.build(Context())
    documents = [EncodedDocument(Document("", str(number)), ids) for number, ids in enumerate(_documents(job))]

    def verdict(tokens: list[int]) -> bool:
        return judge(EncodedDocument(Document("", ""), np.array(tokens, dtype=np.int32))) is not None

    return lambda: sum(judge(document) is not None for document in documents), lambda found: _verdicts(found, verdict)


def _documents(job: Job) -> list[Any]:
    """Return the first documents of the corpus, up to so many tokens."""
    documents, left = [], job["tokens"]
    for ids in Corpus(Path(job["corpus"])).documents:
        if left <= 0:
            break
        documents.append(ids)
        left -= len(ids)
    return documents


def _verdicts(found: int, judge: Callable[[list[int]], bool]) -> dict[str, Any]:
    cases = planted()
    said = {name: judge(tokens) for name, (_, tokens) in cases.items()}
    return {"dropped": found, "planted": said, "right": sum(said[name] == cases[name][0] for name in cases)}


# Near duplicates


def ctxkit_signatures(job: Job) -> tuple[Work, Facts]:
    """Make a signature of every document."""
    from ctxkit_filters.minhash import signature

    documents = _documents(job)
    return lambda: [signature(ids, SIGNATURE, SHINGLE) for ids in documents], lambda made: {"signatures": len(made)}


def datasketch_signatures(job: Job) -> tuple[Work, Facts]:
    """Make them with datasketch of the same n-grams, as sets of bytes, which is what it takes."""
    from datasketch import MinHash

    documents = _documents(job)

    def signature(ids: Any) -> Any:
        data, size = ids.tobytes(), ids.itemsize
        ngrams = {data[start : start + SHINGLE * size] for start in range(0, max(len(data) - 4 * size, 1), size)}
        minhash = MinHash(num_perm=SIGNATURE)
        minhash.update_batch(ngrams)
        return minhash

    return lambda: [signature(ids) for ids in documents], lambda made: {"signatures": len(made)}


# History


def ctxkit_history(job: Job) -> tuple[Work, Facts]:
    """Read the contents before and after every change of a text file."""
    from ctxkit_sources.git.changes import text_changes

    def work() -> tuple[int, int]:
        changes = characters = 0
        for change in text_changes(job["repository"]):
            changes += 1
            characters += len(change.old_text or "") + len(change.new_text or "")
        return changes, characters

    return work, _history_facts


def shown_history(job: Job) -> tuple[Work, Facts]:
    """Start `git show` for every commit, with so many lines around each change that is told: all, or a few."""
    git = ["git", "--git-dir", job["repository"]]

    def work() -> tuple[int, int]:
        listed = subprocess.run([*git, "rev-list", "--no-merges", "HEAD"], check=True, capture_output=True, text=True)
        commits, size = listed.stdout.split(), 0
        for commit in commits:
            shown = [*git, "show", "--format=", "-M", f"-U{job['context']}", "--no-ext-diff", "--no-textconv", commit]
            size += len(subprocess.run(shown, check=True, capture_output=True).stdout)
        return len(commits), size

    return work, lambda made: {"commits": made[0], "bytes": made[1]}


def pygit2_history(job: Job) -> tuple[Work, Facts]:
    """Read the same contents with pygit2."""
    import pygit2

    repository = pygit2.Repository(job["repository"])

    def text(side: Any) -> str | None:
        blob = repository[side.id]
        return None if blob.is_binary or blob.size > 1_000_000 else _utf8(blob.data)

    def sides(delta: Any) -> list[Any]:
        """Return the versions of a file that there are, those that differ."""
        same = delta.old_file.id == delta.new_file.id
        return [side for side in (delta.old_file, delta.new_file) if side.mode in REGULAR and not same]

    def work() -> tuple[int, int]:
        changes = characters = 0
        for commit in repository.walk(repository.head.target, pygit2.enums.SortMode.TOPOLOGICAL):
            if len(commit.parents) > 1:
                continue
            for delta in _pygit2_diff(commit).deltas:
                texts = [text(side) for side in sides(delta)]
                if texts and None not in texts:
                    changes += 1
                    characters += sum(map(len, texts))
        return changes, characters

    return work, _history_facts


def _pygit2_diff(commit: Any) -> Any:
    if not commit.parents:
        return commit.tree.diff_to_tree(swap=True)
    diff = commit.parents[0].tree.diff_to_tree(commit.tree)
    diff.find_similar()
    return diff


def _utf8(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _history_facts(made: tuple[int, int]) -> dict[str, Any]:
    return {"changes": made[0], "characters": made[1]}


# Text splitters


def semchunk_chunks(job: Job) -> tuple[Work, Facts]:
    """Cut texts with semchunk, which counts with the tokenizer."""
    import semchunk

    corpus = Corpus(Path(job["corpus"]))
    return _splitting(corpus, semchunk.chunkerify(corpus.load_tokenizer(), job["length"]), job["length"])


def text_splitter_chunks(job: Job) -> tuple[Work, Facts]:
    """Cut texts with semantic-text-splitter, which counts with the tokenizer."""
    from semantic_text_splitter import TextSplitter

    corpus = Corpus(Path(job["corpus"]))
    splitter = TextSplitter.from_huggingface_tokenizer(corpus.load_backend(), job["length"], trim=False)
    return _splitting(corpus, splitter.chunks, job["length"])


def _splitting(corpus: Corpus, split: Callable[[str], list[str]], length: int) -> tuple[Work, Facts]:
    texts = corpus.texts

    def facts(chunks: list[str]) -> dict[str, Any]:
        over = sum(len(ids) > length for ids in encode(corpus.load_backend(), chunks))
        return {
            "chunks": len(chunks),
            "over_length": over,
            "kept": sum(map(len, chunks)) / sum(map(len, texts)),
        }

    return lambda: [chunk for text in texts for chunk in split(text)], facts


TASKS: dict[str, Task] = {
    task.__name__: task
    for task in (
        ctxkit_rows,
        trl_rows,
        axolotl_rows,
        encoded_alone,
        scanned,
        filtered,
        ctxkit_signatures,
        datasketch_signatures,
        ctxkit_history,
        shown_history,
        pygit2_history,
        semchunk_chunks,
        text_splitter_chunks,
    )
}


def main(name: str, job: str, result: str) -> None:
    """Do one task and write down what it took."""
    told = json.loads(Path(job).read_text())
    if told.get("one_core"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    made = measured(TASKS[name], told)
    Path(result).write_text(json.dumps(asdict(made)))
    sys.stdout.flush()
    os._exit(0)  # what libraries do at their end is not of interest


if __name__ == "__main__":
    main(*sys.argv[1:])
