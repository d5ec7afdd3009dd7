"""Parts of the data made by datatrove's executors: the same bytes as in one process, whatever was killed before."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("datatrove")

from ctxkit.cli import main
from ctxkit.errors import CtxkitError, DataError, ExitCode
from ctxkit.train.executor import Execution, Part, _Builder, _run_ray, parse_arguments

pytestmark = [pytest.mark.torch, pytest.mark.slow]

RECIPE = """\
name: parts
model:
  config: {model_type: llama, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 1, num_attention_heads: 2,
           num_key_value_heads: 2, max_position_embeddings: 64}
tokenizer: {train: {vocab_size: 258}}
data:
  sources:
    - {kind: files, paths: ["texts/*.txt"]}
    - {kind: counted, documents: 17, builds: builds}
  filters: [{kind: length, min_characters: 20}]
  chunker: {kind: overlap, length: 64}
train: {max_steps: 2}
"""
PLUGIN = '''\
"""A source that writes down each reading, and kills the process that reads for the n-th time where told to."""

import os
import signal
import time
from pathlib import Path
from typing import Literal

from ctxkit.spec import Document, SourceOptions, hookimpl


class Counted(SourceOptions):
    """Short documents."""

    kind: Literal["counted"]
    documents: int
    """How many."""
    builds: str
    """A file with a line for each reading."""

    def build(self, context):
        with Path(self.builds).open("a") as file:
            file.write(f"{os.getpid()}\\n")
        killed = Path(f"{self.builds}.killed")
        now = killed.exists() and Path(self.builds).read_text().count("\\n") == int(killed.read_text())
        for number in range(self.documents):
            if number == 5 and now:
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(float(os.environ.get("TEST_SECONDS", 0)))
            yield Document(f"document {number} " * (number + 1), f"counted {number}")


@hookimpl
def ctxkit_components():
    """Return the source."""
    return [Counted]
'''
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a recipe whose paths are relative to it, its texts, and its plugin."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "texts").mkdir()
    for number in range(13):
        (tmp_path / f"texts/{number:02}.txt").write_text(f"The text of number {number}. " * (7 * number % 11))
    (tmp_path / "texts/binary.txt").write_bytes(b"a\0b")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "mine.py").write_text(PLUGIN)
    return tmp_path


def prepare(*options: str) -> int:
    """Run `ctxkit data` here; return its exit status."""
    return main(["data", "recipe.yaml", "--plugin", "mine.py", *options])


def contents(run_dir: Path) -> dict[str, bytes]:
    """Return the bytes of every file of prepared data, without what the executor logs."""
    data = run_dir / "data"
    files = (path for path in data.rglob("*") if path.is_file() and data / "executor" not in path.parents)
    return {str(path.relative_to(data)): path.read_bytes() for path in files}


def assert_same(run_dir: Path) -> None:
    """The folders are those that one process makes, byte by byte."""
    assert prepare("--run-dir", "whole") == 0
    whole = contents(Path("whole"))
    assert sum(name.endswith("ids.bin") for name in whole) == 2
    assert contents(run_dir) == whole


def logs(run_dir: Path) -> Path:
    """Return the one folder of logs."""
    (found,) = (run_dir / "data/executor").iterdir()
    return found


def test_local(folder: Path, capsys: Capture) -> None:
    """A worker killed in the second of three parts is an error; the same line makes the two that are missing."""
    Path("builds.killed").write_text("2")
    line = ["--run-dir", "run", "--executor", "local", "--tasks", "3", "--workers"]
    assert prepare(*line, "1") == 1
    assert "a process that made a part was killed" in capsys.readouterr().err
    assert [path.name for path in (logs(Path("run")) / "completions").iterdir()] == ["00000"]
    Path("builds.killed").unlink()
    assert prepare(*line, "2") == 0
    assert capsys.readouterr().out == "data:   run/data\n"
    assert len(Path("builds").read_text().split()) == 2 + 2  # the finished part was not read again
    assert sorted(path.name for path in (logs(Path("run")) / "logs").iterdir()) == [
        f"task_0000{number}.log" for number in range(3)
    ]
    assert_same(Path("run"))
    before = Path("builds").read_text()
    assert prepare(*line, "2") == 0  # all is there
    assert Path("builds").read_text() == before


def test_data_that_was_deleted_is_made_again(folder: Path) -> None:
    """A marker of a part that is gone counts for nothing."""
    import shutil

    line = ["--run-dir", "run", "--executor", "local", "--tasks", "2", "--workers", "1"]
    assert prepare(*line) == 0
    for path in (folder / "run/data").iterdir():
        if path.name != "executor":
            shutil.rmtree(path)
    assert prepare(*line) == 0
    assert len(Path("builds").read_text().split()) == 4
    assert_same(Path("run"))


def test_part_that_fails(folder: Path, capsys: Capture) -> None:
    """What is wrong in a worker is said as in one process: one message, its exit status."""
    for path in (folder / "texts").iterdir():
        path.write_bytes(b"\xff")
    assert prepare("--run-dir", "run", "--executor", "local", "--tasks", "2") == 3
    err = capsys.readouterr().err
    assert "error: texts/00.txt is not utf-8" in err
    assert "Traceback" not in err


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks at /proc")
def test_workers_end_with_the_process_that_started_them(folder: Path) -> None:
    """When the command is killed all its processes are gone at once, so that none writes a part that is begun anew."""
    line = [sys.executable, "-m", "ctxkit", "data", "recipe.yaml", "--plugin", "mine.py", "--run-dir", "run"]
    line += ["--executor", "local", "--tasks", "2", "--workers", "2"]
    process = subprocess.Popen(line, env={**os.environ, "TEST_SECONDS": "60"}, stderr=subprocess.DEVNULL)
    await_(lambda: Path("builds").exists() and len(Path("builds").read_text().split()) == 2, seconds=200)
    assert len(processes(folder)) >= 3
    process.kill()
    process.wait()
    await_(lambda: not processes(folder), seconds=10)


def await_(condition: Callable[[], object], seconds: float) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def processes(folder: Path) -> list[int]:
    """Return the numbers of the other processes that work in a folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if place.readlink() == folder and place.parent.name != str(os.getpid()):
                found.append(int(place.parent.name))
        except OSError:
            continue  # it has ended
    return found


COMMANDS = {
    "sbatch": """#!/bin/sh
for file; do :; done
number=$(ls "$FAKE" | wc -l)
cp "$file" "$FAKE/$number.sh"
echo "$@" > "$FAKE/../arguments.$number"
echo "Submitted batch job $number"
""",
    "srun": '#!/bin/sh\nwhile case "$1" in -n) shift;; -*) true;; *) false;; esac; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/sh\n[ "$1 $2" = "show hostnames" ] && echo "$3"\n',
}
"""What Slurm's commands do, as far as datatrove uses them: a job is a file in $FAKE."""


def test_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """The script, run once for each number of its array, makes the parts; the line that is said joins them."""
    (folder / "bin").mkdir()
    (folder / "jobs").mkdir()
    for name, script in COMMANDS.items():
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
    monkeypatch.setenv("FAKE", f"{folder}/jobs")
    arguments = ["time=01:30:00", "partition=cpu", "tasks_per_job=2", "sbatch_args={exclude: node7}", "qos=null"]
    line = ["--run-dir", "run", "--executor", "slurm", "--tasks", "3", "--workers", "5"]
    assert prepare(*line, *(word for text in arguments for word in ("--executor-arg", text))) == 0
    out, err = capsys.readouterr()
    assert "put the parts together" in err

    job, sums = (folder / "jobs/0.sh").read_text(), (folder / "jobs/1.sh").read_text()
    directives = {line for line in job.splitlines() if line.startswith("#SBATCH ")}
    stated = {"time=01:30:00", "partition=cpu", "array=0-1%5", "exclude=node7", "job-name=ctxkit-parts", "nodes=1"}
    assert {f"#SBATCH --{text}" for text in stated} <= directives
    assert not any("qos" in text for text in directives)
    assert "#SBATCH --dependency=afterok:0" in sums
    assert not list((folder / "run/data").glob("tokens/*"))  # nothing is made where it is submitted

    monkeypatch.chdir("/")  # a node may start elsewhere
    for number in range(2):
        variables = {"SLURM_ARRAY_TASK_ID": str(number), "RUN_OFFSET": "0", "SLURM_NODELIST": "node1"}
        subprocess.run(["bash", folder / "jobs/0.sh"], env={**os.environ, **variables}, check=True)
    subprocess.run(["bash", folder / "jobs/1.sh"], check=True)
    assert json.loads((logs(folder / "run") / "stats.json").read_text()) is not None
    monkeypatch.chdir(folder)
    assert sorted(path.name for path in (logs(folder / "run") / "completions").iterdir()) == ["00000", "00001", "00002"]
    assert main(shlex.split(out)[1:]) == 0
    assert len(Path("builds").read_text().split()) == 3  # joined, not read again
    assert_same(Path("run"))


def test_slurm_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """Without `sbatch`, or where it refuses, one message says so."""
    (folder / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{folder}/bin")
    line = ["--run-dir", "run", "--executor", "slurm", "--tasks", "2", "--executor-arg", "time=60"]
    line += ["--executor-arg", "partition=cpu"]
    assert prepare(*line) == 1
    assert "error: sbatch is not there\n" in capsys.readouterr().err
    (folder / "bin/sbatch").write_text("#!/bin/sh\nexit 7\n")
    (folder / "bin/sbatch").chmod(0o755)
    assert prepare(*line) == 1
    assert "failed with status 7" in capsys.readouterr().err
    assert prepare("--run-dir", "a run", *line[2:]) == 1
    assert "has a blank in it" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    assert prepare(*line) == 1
    assert "submit from outside of it" in capsys.readouterr().err


def test_ray(folder: Path) -> None:
    """A Ray cluster of this machine alone makes the same bytes."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        line = ["--run-dir", "run", "--executor", "ray", "--tasks", "2", "--executor-arg", "mem_per_cpu_gb=0.1"]
        assert prepare(*line) == 0
    finally:
        ray.shutdown()
    assert len(Path("builds").read_text().split()) == 2
    assert_same(Path("run"))


def test_parts_that_ray_gave_up(tmp_path: Path) -> None:
    """Where datatrove only logs that parts failed, ctxkit says it as an error."""

    class Executor:
        def __init__(self, **arguments: object) -> None:
            self.arguments = arguments

        def run(self) -> None:
            pass

        def get_incomplete_ranks(self, skip_completed: bool) -> list[int]:
            return [1]

    with pytest.raises(CtxkitError, match=r"1 of 3 parts failed; their logs are in .*/logs"):
        _run_ray(_Builder(Executor, {}, Part("r.yaml", "run"), Execution("ray", 3), tmp_path))


def test_arguments() -> None:
    """Values are YAML 1.2: a time stays text, as sbatch reads it; a number is one; mappings are allowed."""
    texts = ["time=12:30:00", "max_array_size=-1", "requeue=false", "qos=no", "sbatch_args={a: 1e1, b: [x]}", "mail="]
    assert parse_arguments(texts) == {
        "time": "12:30:00",
        "max_array_size": -1,
        "requeue": False,
        "qos": "no",
        "sbatch_args": {"a": 10.0, "b": ["x"]},
        "mail": None,
    }


@pytest.mark.parametrize("text", ["time", "=1", "a b=1", "--time=1"])
def test_argument_of_another_form(text: str) -> None:
    """What is no KEY=VALUE is refused with the form."""
    with pytest.raises(CtxkitError, match="needs the form KEY=VALUE") as caught:
        parse_arguments([text])
    assert caught.value.exit_code == ExitCode.RECIPE


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("slurm", {}, "needs --executor-arg time=... --executor-arg partition=..."),
        ("slurm", {"time": 1, "partion": "x"}, "partion cannot be set for slurm\ndid you mean partition?"),
        ("local", {"partition": "x"}, "partition cannot be set for local\nsee LocalPipelineExecutor"),
        ("local", {"tasks": 3}, "tasks cannot be set for local\nwrite --tasks"),
        ("slurm", {"time": 1, "partition": "x", "nodes_per_task": 2}, "several nodes would write the same part"),
    ],
)
def test_arguments_are_checked(kind: str, arguments: dict, said: str) -> None:
    """Names that datatrove does not know, that are ctxkit's, or that are missing, are refused."""
    with pytest.raises(CtxkitError) as caught:
        _Builder.of(Execution(kind, 2, arguments=arguments), Part("r.yaml", "run"), "name")
    assert said in str(caught.value)
    assert caught.value.exit_code == ExitCode.RECIPE


@pytest.mark.parametrize(
    ("kind", "module", "extra"), [("local", "datatrove.executor.local", "cluster"), ("ray", "ray", "ray")]
)
def test_missing_extra(kind: str, module: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the error names it, and the line that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CtxkitError) as caught:
        _Builder.of(Execution(kind, 2), Part("r.yaml", "run"), "name")
    assert f"pip install 'ctxkit-longcontext[{extra}]'" in str(caught.value)


def test_environment_of_a_job() -> None:
    """A job runs in the environment of whoever submits it, unless told of another; the name can be another too."""
    stated = {"time": 1, "partition": "x"}
    build = _Builder.of(Execution("slurm", 2, arguments=stated), Part("r.yaml", "run"), "name")
    assert build.arguments["env_command"].startswith(f"export PATH={Path(sys.executable).parent}:")
    own = {**stated, "venv_path": "/v/bin/activate", "job_name": "mine"}
    build = _Builder.of(Execution("slurm", 2, arguments=own), Part("r.yaml", "run"), "name")
    assert build.arguments == own


def test_line_that_puts_together() -> None:
    """It names what the parts were made with, quoted."""
    part = Part("a b.yaml", "run", ("data.max_tokens=5", "name=x y"), ("mine.py",), "/somewhere")
    words = ["ctxkit", "data", "a b.yaml", "--run-dir", "run", "--set", "data.max_tokens=5", "--set", "name=x y"]
    assert shlex.split(part.line()) == [*words, "--plugin", "mine.py"]


def test_errors_cross_processes() -> None:
    """An error of a worker arrives with its message, hint and exit status."""
    import pickle

    for error in (DataError("what", "how"), CtxkitError("what", "how", exit_code=ExitCode.DISK)):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
        assert (str(again), again.exit_code) == ("what\nhow", error.exit_code)
