"""Compare ctxkit's data path with others on the same texts, in CPU seconds, memory and bytes on disk.

The texts are the Python sources of the standard library and of the installed packages. Every measurement runs in a
process of its own and takes the CPU seconds of the work alone, imports and loading left out. In each round all
contenders run one after the other, in the next round in the opposite order; a ratio is of one round, other / ctxkit,
and what is printed is the median of all rounds with the least and the greatest.

    python benchmarks/data.py                              # all, into benchmarks/results
    python benchmarks/data.py --only packing,repetition    # some, printed alone
    python benchmarks/data.py --repository PATH            # the history of that repository as well
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))  # it may be loaded by its path

from data_inputs import Corpus, make_corpus, make_repository
from data_tasks import Measure, planted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

RESULTS = Path(__file__).parent / "results"
TASKS = Path(__file__).with_name("data_tasks.py")
ROW = 32_768
"""Tokens of a packed row."""
CHUNK = 2_048
"""Tokens of a chunk."""
OVERLAP = {"kind": "overlap", "length": CHUNK, "overlap": CHUNK // 4}
PARAGRAPH = {"kind": "paragraph", "length": CHUNK}
WHOLE = 10_000_000
"""Lines around a change, so that a diff holds the whole file before and after."""
FLAT_WITHIN = 0.1
"""How much more memory four times the texts may take."""
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "AXOLOTL_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
"""One thread each: what threads gain in time on an idle machine, they cost in CPU seconds."""
PACKAGES = (
    "ctxkit-longcontext",
    "trl",
    "transformers",
    "tokenizers",
    "datasets",
    "numpy",
    "pygit2",
    "datasketch",
    "semchunk",
    "semantic-text-splitter",
)

HOW = (
    "CPU seconds of the work alone on one thread, every measurement in a fresh process, contenders in turn.",
    "Whoever reads a history shares one core with the processes that it starts, whose CPU seconds count.",
    "A ratio is other / ctxkit unless said otherwise: the median of all rounds, with the least and the greatest.",
)
Contenders = dict[str, tuple[str, dict[str, Any]]]
"""By name: the task, and what it is told."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    comparison: str
    what: str
    figure: str
    goal: str = ""
    met: bool | None = None
    """None where there is no goal, or nothing was measured."""


@dataclass
class Bench:
    """What the comparisons share: texts, options, and a way to measure."""

    options: argparse.Namespace
    corpus: Corpus
    folder: Path
    measures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """All measurements by comparison and contender, for the JSON file."""

    def alternate(self, comparison: str, contenders: Contenders, rounds: int | None = None) -> dict[str, list[Measure]]:
        """Measure all contenders in every round, in the opposite order every other round."""
        made: dict[str, list[Measure]] = {name: [] for name in contenders}
        for number in range(rounds or self.options.rounds):
            for name in list(contenders)[:: -1 if number % 2 else 1]:
                task, job = contenders[name]
                made[name].append(self.measure(task, job))
                shown = f"{made[name][-1].cpu_seconds:.2f} CPU s, {made[name][-1].peak_bytes / 1e6:.0f} MB"
                print(f"{comparison}, round {number + 1}: {name}: {shown}", flush=True)
        for name, measures in made.items():
            self.measures[f"{comparison}: {name}"] = [asdict(measure) for measure in measures]
        return made

    def measure(self, task: str, job: dict[str, Any]) -> Measure:
        """Run one task in a fresh process, in an empty folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            place = Path(folder)
            (place / "work").mkdir()
            job = {"corpus": str(self.corpus.folder), "folder": str(place / "work"), **job}
            (place / "job.json").write_text(json.dumps(job))
            self.start(job.get("python", sys.executable), task, place)
            return Measure(**json.loads((place / "result.json").read_text()))

    def start(self, python: str, task: str, place: Path) -> None:
        """Run a task of `data_tasks.py`.

        Raises:
            SystemExit: it failed, with what it said.
        """
        caches = {"HF_HOME": str(place / "work/hf"), "HF_DATASETS_CACHE": str(place / "work/hf/datasets")}
        command = [python, str(TASKS), task, str(place / "job.json"), str(place / "result.json")]
        done = subprocess.run(
            command, env={**os.environ, **QUIET, **caches}, cwd=place, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{task} failed:\n{done.stderr[-4000:]}")

    def source(self, *files: Path) -> dict[str, Any]:
        """Return a source of a recipe: JSON lines, or Arrow; the corpus unless stated."""
        names = [str(file) for file in files or [self.corpus.lines]]
        return {"kind": "hub", "path": "arrow" if names[0].endswith(".arrow") else "json", "data_files": names}

    def rows(self, chunker: dict[str, Any], *files: Path, packed: bool = False) -> tuple[str, dict[str, Any]]:
        """Return the task to prepare rows with a chunker."""
        data = {"sources": [self.source(*files)], "chunker": chunker}
        return "ctxkit_rows", {"data": {**data, "packing": {}} if packed else data}


def ratio(ours: Sequence[Measure], others: Sequence[Measure]) -> tuple[float, str]:
    """Return the median of other / ctxkit in CPU seconds, and that with the least and greatest as text."""
    found = [other.cpu_seconds / own.cpu_seconds for own, other in zip(ours, others, strict=True)]
    return statistics.median(found), spread(found, "×")


def spread(values: Sequence[float], unit: str) -> str:
    """Return median, least and greatest as text."""
    middle, least, most = statistics.median(values), min(values), max(values)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    return f"{middle:,.{digits}f}{unit} ({least:,.{digits}f} to {most:,.{digits}f})"


def faster(comparison: str, what: str, ours: Sequence[Measure], others: Sequence[Measure], goal: float) -> Figure:
    """Return a line that says how many times the CPU seconds of ctxkit another takes; no goal where it is 0."""
    middle, text = ratio(ours, others)
    return Figure(comparison, what, text, f"≥ {goal:g}×" if goal else "", middle >= goal if goal else None)


def not_installed(comparison: str, package: str) -> Figure:
    """Return the line of a comparison with what is not there."""
    return Figure(comparison, f"against {package}", "not installed, not measured")


def installed(package: str) -> bool:
    """Return whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


# The comparisons


def packing(bench: Bench) -> list[Figure]:
    """Compare text to packed rows of 32k with TRL's own preparation."""
    name = "text to packed rows"
    contenders = {
        "ctxkit": bench.rows({"kind": "overlap", "length": ROW}, bench.corpus.arrow, packed=True),
        "TRL": ("trl_rows", {"length": ROW, "strategy": "bfd_split"}),
    }
    made = bench.alternate(name, contenders)
    default = bench.measure("trl_rows", {"length": ROW, "strategy": "bfd"})
    bench.measures[f"{name}: TRL, bfd"] = [asdict(default)]
    facts = {label: measures[0].facts for label, measures in made.items()}
    whole = bench.corpus.facts()["tokens"]
    per_token = {label: fact["disk_bytes"] / fact["tokens"] for label, fact in facts.items()}
    lost = {label: whole - fact["tokens"] for label, fact in {**facts, "TRL, bfd": default.facts}.items()}
    return [
        faster(name, "CPU of TRL (SFTTrainer, bfd_split)", made["ctxkit"], made["TRL"], 1.8),
        Figure(name, "bytes on disk a token, ctxkit", f"{per_token['ctxkit']:.2f}", "≤ 6", per_token["ctxkit"] <= 6),
        Figure(name, "bytes on disk a token, TRL", f"{per_token['TRL']:.1f}"),
        Figure(name, "tokens lost, ctxkit", f"{lost['ctxkit']:,}", "0", lost["ctxkit"] == 0),
        *(Figure(name, f"tokens lost, {label}", _lost(lost[label], whole)) for label in ("TRL", "TRL, bfd")),
        *(Figure(name, f"rows filled, {label}", f"{fact['efficiency']:.4f}") for label, fact in facts.items()),
        *(Figure(name, f"memory added, {label}", _added(measures)) for label, measures in made.items()),
    ]


def _lost(tokens: int, whole: int) -> str:
    """Return a loss as text; a special token that a text spells out is one token to TRL, several to ctxkit."""
    return f"{tokens:,} of {whole:,} ({tokens / whole:.2%})"


def _added(measures: Sequence[Measure]) -> str:
    return spread([measure.growth_bytes / 1e6 for measure in measures], " MB")


def chunking(bench: Bench) -> list[Figure]:
    """Compare text to chunks on disk with `encode_batch_fast` alone."""
    name = "tokenise and chunk"
    contenders = {
        "encode_batch_fast": ("encoded_alone", {}),
        "overlap": bench.rows(OVERLAP),
        "paragraph": bench.rows(PARAGRAPH),
    }
    made = bench.alternate(name, contenders)
    figures = []
    for kind in ("overlap", "paragraph"):
        middle, text = ratio(made["encode_batch_fast"], made[kind])
        what = f"CPU of `{kind}` in that of encode_batch_fast alone"
        figures.append(Figure(name, what, text, "≤ 1.1×", middle <= 1.1))
    return figures


def axolotl(bench: Bench) -> list[Figure]:
    """Compare text to packed rows with `axolotl preprocess`, in whichever interpreter has it."""
    name, python = "axolotl preprocess", bench.options.axolotl
    if python is None and not installed("axolotl"):
        return [not_installed(name, "axolotl")]
    contenders = {
        "ctxkit": bench.rows({"kind": "overlap", "length": ROW}, packed=True),
        "axolotl": ("axolotl_rows", {"length": ROW, "python": python or sys.executable}),
    }
    made = bench.alternate(name, contenders)
    facts, whole = made["axolotl"][0].facts, bench.corpus.facts()["tokens"]
    what = f"CPU of axolotl {facts['version']}, which does not pack yet"
    return [
        faster(name, what, made["ctxkit"], made["axolotl"], 2),
        Figure(name, "bytes on disk a token, axolotl", f"{facts['disk_bytes'] / facts['tokens']:.1f}"),
        Figure(name, "tokens lost, axolotl", _lost(whole - facts["tokens"], whole)),
    ]


def repetition(bench: Bench) -> list[Figure]:
    """Compare the repetition filter with a windowed scan in Python."""
    name, job = "repetition", {"tokens": bench.options.scan_tokens}
    window = {"kind": "repetition", "method": "window"}
    contenders = {
        "windowed scan in Python": ("scanned", job),
        "ctxkit": ("filtered", {**job, "filter": {"kind": "repetition"}}),
        "ctxkit, method window": ("filtered", {**job, "filter": window}),
    }
    made = bench.alternate(name, contenders)
    scan = made["windowed scan in Python"]
    cases = len(planted())
    right = {label: measures[0].facts["right"] for label, measures in made.items()}
    wrong = ", ".join(case for case, (repeats, _) in planted().items() if scan[0].facts["planted"][case] != repeats)
    return [
        faster(name, "CPU of a windowed scan in Python", made["ctxkit"], scan, 200),
        faster(name, "CPU of the scan to method `window`, the same test", made["ctxkit, method window"], scan, 200),
        Figure(name, "planted cases right, ctxkit", f"{right['ctxkit']} of {cases}", "all", right["ctxkit"] == cases),
        Figure(name, "planted cases right, scan", f"{cases - len(wrong.split(', '))} of {cases}, wrong: {wrong}"),
    ]


def history(bench: Bench) -> list[Figure]:
    """Compare reading a history with a process per commit and with pygit2."""
    options = bench.options
    made = make_repository(options.cache, bench.corpus.texts[:500], options.commits, options.seed)
    repositories = {f"synthetic, {options.commits:,} commits": made}
    if options.repository:
        repositories[_called(options.repository)] = options.repository
    return [figure for label, path in repositories.items() for figure in _one_history(bench, label, path)]


def _called(path: Path) -> str:
    """Return what to call a repository: by its folder and the number of its commits."""
    listed = subprocess.run(
        ["git", "-C", str(path), "rev-list", "--count", "HEAD"], check=True, capture_output=True, text=True
    )
    return f"{path.parent.name if path.name == '.git' else path.stem}, {int(listed.stdout):,} commits"


def _one_history(bench: Bench, label: str, path: Path) -> list[Figure]:
    # Processes at work at the same moment slow each other down, which says nothing of the work.
    name, job = f"history ({label})", {"repository": str(path), "one_core": True}
    contenders: Contenders = {
        "ctxkit": ("ctxkit_history", job),
        "git show, whole files": ("shown_history", {**job, "context": WHOLE}),
        "git show": ("shown_history", {**job, "context": 3}),
    }
    if installed("pygit2"):
        contenders["pygit2"] = ("pygit2_history", job)
    made = bench.alternate(name, contenders)
    own, facts = made["ctxkit"], made["ctxkit"][0].facts
    whole, changed = made["git show, whole files"], made["git show"]
    git = max(measure.child_bytes for measure in own) / 1e6
    figures = [
        faster(name, f"CPU of `git show` a commit, whole files: {_printed(whole)}", own, whole, 15),
        faster(name, f"CPU of `git show` a commit, changed lines alone: {_printed(changed)}", own, changed, 0),
        not_installed(name, "pygit2"),
        Figure(
            name,
            "changes, million characters before and after",
            f"{facts['changes']:,}, {facts['characters'] / 1e6:,.0f}",
        ),
        Figure(name, "memory, ctxkit", f"{max(m.peak_bytes for m in own) / 1e6:.0f} MB, largest git {git:.0f} MB"),
    ]
    if "pygit2" in made:
        figures[2] = faster(name, "CPU of pygit2, the same contents", own, made["pygit2"], 2)
        figures.append(Figure(name, "changes, pygit2", f"{made['pygit2'][0].facts['changes']:,}"))
    return figures


def _printed(measures: Sequence[Measure]) -> str:
    """Return how much `git show` printed; of a whole file, a line that stays is printed once, not before and after."""
    return f"{measures[0].facts['bytes'] / 1e6:,.0f} MB"


def duplicates(bench: Bench) -> list[Figure]:
    """Compare signatures for near duplicates with datasketch's."""
    name, job = "near duplicates", {"tokens": bench.corpus.facts()["tokens"]}
    if not installed("datasketch"):
        return [not_installed(name, "datasketch")]
    contenders = {"ctxkit": ("ctxkit_signatures", job), "datasketch": ("datasketch_signatures", job)}
    made = bench.alternate(name, contenders)
    return [faster(name, "CPU of datasketch's MinHash, the same 5-grams", made["ctxkit"], made["datasketch"], 20)]


def memory(bench: Bench) -> list[Figure]:
    """Measure the memory that one long document takes, and how it grows with the number of documents."""
    name, rounds = "memory", min(bench.options.rounds, 2)
    contenders = {}
    sizes = {}
    for kind, text in _long_texts(bench).items():
        file = bench.folder / f"{kind}.txt"
        file.write_text(text, encoding="utf-8")
        sizes[kind] = file.stat().st_size
        source = {"kind": "files", "paths": [str(file)]}
        contenders[kind] = ("ctxkit_rows", {"data": {"sources": [source], "chunker": OVERLAP, "packing": {}}})
    copies = [bench.folder / f"copy{number}.jsonl" for number in range(4)]
    for copy in copies:
        shutil.copy(bench.corpus.lines, copy)
    contenders["1x"] = bench.rows(OVERLAP, *copies[:1], packed=True)
    contenders["4x"] = bench.rows(OVERLAP, *copies, packed=True)
    made = bench.alternate(name, contenders, rounds)
    growth = {label: max(measure.growth_bytes for measure in measures) for label, measures in made.items()}
    peaks = {label: statistics.median(m.peak_bytes for m in measures) for label, measures in made.items()}
    times = {kind: growth[kind] / sizes[kind] for kind in sizes}
    flat = peaks["4x"] / peaks["1x"]
    shown = {label: f"{growth[label] / 1e6:.0f} MB" for label in growth}
    megabytes = bench.options.document_megabytes
    return [
        Figure(
            name, f"one document of {megabytes:g} MB, ASCII", _times(times, growth, "ascii"), "< 2×", times["ascii"] < 2
        ),
        Figure(name, f"one document of {megabytes:g} MB with emoji", _times(times, growth, "wide")),
        Figure(name, "peak for 4 times the corpus", f"{flat:.3f}×", "≤ 1.1×", flat <= 1 + FLAT_WITHIN),
        Figure(name, "memory added, 1 and 4 times the corpus", f"{shown['1x']} and {shown['4x']}"),
    ]


def _times(times: dict[str, float], growth: dict[str, int], kind: str) -> str:
    return f"{times[kind]:.2f}× its size ({growth[kind] / 1e6:.0f} MB)"


def _long_texts(bench: Bench) -> dict[str, str]:
    """Return two long texts: with one byte a character in memory, and with four."""
    size = int(bench.options.document_megabytes * 1e6)
    ascii_only = "".join(bench.corpus.texts).encode("ascii", "ignore").decode()
    whole = (ascii_only * (size // len(ascii_only) + 1))[:size]
    return {"ascii": whole, "wide": f"🙂{whole[:-4]}"}


def splitters(bench: Bench) -> list[Figure]:
    """Compare chunks that end where paragraphs do with two text splitters, on a part of the texts."""
    name = "paragraphs"
    part = make_corpus(
        bench.options.cache, bench.options.splitter_megabytes, bench.options.vocabulary, bench.options.seed
    )
    own = replace(bench, corpus=part)  # the same record of measurements
    contenders: Contenders = {"ctxkit": own.rows(PARAGRAPH)}
    peers = {"semchunk": "semchunk_chunks", "semantic_text_splitter": "text_splitter_chunks"}
    there = {package: task for package, task in peers.items() if installed(package)}
    for package, task in there.items():
        contenders[package] = (task, {"length": CHUNK})
    made = own.alternate(name, contenders) if there else {}
    figures = [not_installed(name, package) for package in peers if package not in there]
    for package in there:
        facts = made[package][0].facts
        said = f"{facts['kept']:.2%} of characters kept, {facts['over_length']} of {facts['chunks']} chunks too long"
        figures.append(faster(name, f"CPU of {package}", made["ctxkit"], made[package], 0))
        figures.append(Figure(name, f"chunks of {package}", said))
    return figures


COMPARISONS: dict[str, Callable[[Bench], list[Figure]]] = {
    "packing": packing,
    "chunking": chunking,
    "axolotl": axolotl,
    "repetition": repetition,
    "history": history,
    "duplicates": duplicates,
    "memory": memory,
    "splitters": splitters,
}


# What is written


def main(arguments: Sequence[str] | None = None, bench_type: type[Bench] = Bench) -> dict[str, Any]:
    """Run the comparisons; print the table, and write it where all were run or a folder is named."""
    options = parsed(arguments)
    options.cache.mkdir(parents=True, exist_ok=True)
    corpus = make_corpus(options.cache, options.megabytes, options.vocabulary, options.seed)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.cache) as folder:
        bench = bench_type(options, corpus, Path(folder))
        figures = [figure for name in options.only for figure in COMPARISONS[name](bench)]
    results = {
        "command": command(options),
        "corpus": corpus.facts(),
        "versions": versions(),
        "figures": [asdict(figure) for figure in figures],
        "measures": bench.measures,
    }
    print(table(results))
    output = options.output or (RESULTS if options.only == list(COMPARISONS) else None)
    if output:
        output.mkdir(parents=True, exist_ok=True)
        (output / "data.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (output / "data.md").write_text(table(results), encoding="utf-8")
    return results


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=25, help="size of the corpus")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=_names, default=list(COMPARISONS), help=",".join(COMPARISONS))
    parser.add_argument("--vocabulary", type=int, default=32_000, help="tokens of the tokenizer")
    parser.add_argument("--scan-tokens", type=int, default=1_000_000, help="tokens judged for repetition")
    parser.add_argument("--commits", type=int, default=2_000, help="of the synthetic repository")
    parser.add_argument("--repository", type=Path, help="one more repository")
    parser.add_argument("--document-megabytes", type=float, default=100, help="size of the long document")
    parser.add_argument("--splitter-megabytes", type=float, default=2, help="size of the corpus for text splitters")
    parser.add_argument("--axolotl", help="a Python interpreter that has axolotl")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "ctxkit-benchmark")
    parser.add_argument("--output", type=Path, help="folder for data.json and data.md")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in COMPARISONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(COMPARISONS)}")
    return names


def command(options: argparse.Namespace) -> str:
    """Return the command that does the same, paths of this machine left out."""
    values = {
        key: value for key, value in vars(options).items() if key not in {"cache", "output"} and value is not None
    }
    values |= {key: "PATH" for key in ("repository", "axolotl") if key in values}
    if options.only == list(COMPARISONS):
        del values["only"]
    else:
        values["only"] = ",".join(options.only)
    said = (
        f"--{key.replace('_', '-')} {value:g}" if isinstance(value, float) else f"--{key.replace('_', '-')} {value}"
        for key, value in values.items()
    )
    return f"python benchmarks/data.py {' '.join(said)}"


def versions() -> dict[str, str]:
    """Return the versions of what was measured."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    git = subprocess.run(["git", "--version"], check=True, capture_output=True, text=True).stdout
    return {**found, "git": git.split()[2]}


def table(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    corpus = results["corpus"]
    size = f"{corpus['megabytes']:g} MB of Python sources, {corpus['documents']:,} documents"
    tokens = f"{corpus['tokens']:,} tokens, the longest document {corpus['longest_document_tokens']:,}"
    lines = [
        "# The data path against others",
        "",
        f"    {results['command']}",
        "",
        f"Corpus: {size}, {tokens}; sha256 {corpus['sha256'][:16]}.",
        *HOW,
        f"Versions: {', '.join(f'{name} {version}' for name, version in results['versions'].items())}.",
        "",
        "| comparison | measure | figure | goal | met |",
        "|---|---|---|---|---|",
    ]
    for figure in results["figures"]:
        met = {None: "", True: "yes", False: "**no**"}[figure["met"]]
        lines.append(f"| {figure['comparison']} | {figure['what']} | {figure['figure']} | {figure['goal']} | {met} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
