"""The line of a launcher, what becomes of its processes when somebody stops them, and the job files for engines."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ctxkit import launching
from ctxkit.cli import main
from ctxkit.errors import CtxkitError, ExitCode
from ctxkit.jobs import ENGINES, Job, parse_arguments
from ctxkit.launch import STATUS, Machines, launch_line, launch_words
from ctxkit.supervising import children, outcome

RECIPE = """\
name: small
model: {name_or_path: some/model, original_max_position_embeddings: 32}
data: {sources: [{kind: repeats, documents: 4, length: 31}], chunker: {kind: overlap, length: 32}}
train: {max_steps: 1}
launch: {num_processes: 4, num_machines: 2}
"""
SEVERAL = "accelerate launch --config_file z.yaml --num_processes 16 --num_machines 2 --machine_rank 1"
ODD = '/data/my runs/it\'s "$HOME" `id` 50%'
JOB = Job(name="a.b_C-1", recipe="my recipes/r.yaml", num_processes=16, num_machines=2, arguments=("--run-dir", ODD),
          run_dir=ODD, folder="/home/o'brien/my work")  # fmt: skip
SETTINGS: dict[str, dict[str, str]] = {
    "kubeflow": {"image": "registry.example.org/ctxkit:1", "volume": "runs:/data", "namespace": "team"},
    "skypilot": {"accelerators": "H100", "volume": "runs:/data", "infra": "aws", "use_spot": "true"},
    "slurm": {"time": "24:00:00", "partition": "gpu", "comment": "two words"},
}


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Type `ctxkit launch` on a recipe, on a machine with so many GPUs; return exit code, stdout and stderr."""
    (tmp_path / "r.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)

    def launch(*words: str, gpus: int | None = 0) -> tuple[int, str, str]:
        monkeypatch.setattr(launching, "devices", lambda: gpus)
        code = main(["launch", "r.yaml", *words])
        return (code, *capsys.readouterr())

    return launch


@pytest.mark.parametrize(
    ("machines", "config", "line"),
    [
        (Machines(1), None, "accelerate launch --num_processes 1"),
        (Machines(8), None, "accelerate launch --num_processes 8 --multi_gpu"),
        (Machines(8), "z.yaml", "accelerate launch --config_file z.yaml --num_processes 8"),
        (Machines(2, gpus=False), None, "torchrun --standalone --nproc-per-node 2"),
        (Machines(1, gpus=False), None, "python"),
        (Machines(1, gpus=False, deepspeed=True), None, "torchrun --standalone --nproc-per-node 1"),
        (Machines(1, deepspeed=True), None, "torchrun --standalone --nproc-per-node 1"),
        (Machines(8, deepspeed=True), None, "accelerate launch --num_processes 8 --multi_gpu"),
        (
            Machines(16, 2, "node1", 123),
            None,
            "torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint node1:123 --rdzv-id ctxkit",
        ),
        (
            Machines(16, 2, "node1", 123, machine_rank=1),
            "z.yaml",
            f"{SEVERAL} --main_process_ip node1 --main_process_port 123 --rdzv_backend c10d",
        ),
    ],
)
def test_words(machines: Machines, config: str | None, line: str) -> None:
    """The launcher fits the machines, and the recipe is one word."""
    words = launch_words("my r.yaml", machines, config, ["--set", "a=b c"])
    assert words == [*line.split(), "-m", "ctxkit", "run", "my r.yaml", "--set", "a=b c"]


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("machines", [Machines(16, 2, "node1", 123), Machines(2, gpus=False)])
def test_torchrun_takes_its_words(machines: Machines) -> None:
    """Torch's own parser reads the line as it is meant."""
    from torch.distributed.run import config_from_args, parse_args

    found = parse_args(launch_words("r.yaml", machines)[1:])
    assert (found.module, found.training_script, found.training_script_args) == (True, "ctxkit", ["run", "r.yaml"])
    config = config_from_args(found)[0]
    assert (config.nproc_per_node, config.max_nodes) == (machines.local, machines.num_machines)
    assert config.max_restarts == 0  # a second start inside would hide the exit code
    if machines.num_machines > 1:
        assert (config.rdzv_backend, config.rdzv_endpoint) == ("c10d", "node1:123")


@pytest.mark.torch
@pytest.mark.slow
def test_accelerate_takes_its_words() -> None:
    """Accelerate's own parser does too, for several machines with a configuration file of its own."""
    from accelerate.commands.launch import launch_command_parser

    found = launch_command_parser().parse_args(launch_words("r.yaml", Machines(16, 2, "node1", 123, 1), "z.yaml")[2:])
    assert (found.num_processes, found.num_machines, found.machine_rank) == (16, 2, 1)
    assert (found.main_process_ip, found.main_process_port, found.rdzv_backend) == ("node1", 123, "c10d")
    assert (found.module, found.training_script_args) == (True, ["run", "r.yaml"])


def test_line_of_the_plan() -> None:
    """The line is quoted for a shell."""
    assert shlex.split(launch_line("my r.yaml", 4, num_machines=2))[-1] == "my r.yaml"
    assert launch_line("r.yaml", 1, deepspeed=True).startswith("torchrun --standalone ")


def test_dry_run_prints_the_line(typed: Callable[..., Any]) -> None:
    """Numbers come from the recipe unless they are typed; every option of `ctxkit run` is handed on."""
    code, out, _ = typed("--dry-run", "--run-dir", "x y", "--set", "train.seed=1", "--main-process-ip", "n")
    assert code == ExitCode.DONE
    meeting = "--rdzv-backend c10d --rdzv-endpoint n:29500 --rdzv-id ctxkit"
    run = "-m ctxkit run r.yaml --run-dir 'x y' --set train.seed=1"
    assert out == f"torchrun --nnodes 2 --nproc-per-node 2 {meeting} {run}\n"
    words = ("--dry-run", "--num-machines", "1", "--num-processes", "8")
    alone = ("--dry-run", "--num-machines", "1", "--num-processes", "1", "--set", "launch.deepspeed=zero3")
    assert typed(*alone, gpus=1)[1].startswith("torchrun --standalone --nproc-per-node 1 -m ctxkit run r.yaml ")
    assert launching.LaunchRequest("-r.yaml").file == "./-r.yaml"
    assert typed(*words, gpus=8)[1] == "accelerate launch --num_processes 8 --multi_gpu -m ctxkit run r.yaml\n"


SKY = ("--on", "skypilot", "--job-arg", "accelerators=H100", "--run-dir")


@pytest.mark.parametrize(
    ("words", "gpus", "said"),
    [
        ((), 0, "2 machines need --main-process-ip HOST"),
        (("--machine-rank", "2", "--main-process-ip", "n"), 0, "the first of 2 machines is 0"),
        (("--num-processes", "3"), 0, "3 processes cannot be shared evenly by 2 machines"),
        (("--num-machines", "1"), 2, "4 processes need as many GPUs, and this machine has 2"),
        (("--num-machines", "1", "--set", "train.max_step=2"), 0, "did you mean `max_steps`?"),
        (("--out", "x"), 0, "--out needs --on ENGINE"),
        (("--job-arg", "time=1"), 0, "--job-arg needs --on ENGINE"),
        (("--on", "sge"), 0, "--on sge: there is no such engine\nthere are kubeflow, skypilot, slurm"),
        (("--on", "skypilot", "--run-dir", "/r/s"), 0, "needs --job-arg accelerators="),
        (("--on", "kubeflow", "--job-arg", "image=x"), 0, "needs --run-dir with an absolute path"),
        (("--on", "kubeflow", "--job-arg", "imag=x", "--run-dir", "/r/s"), 0, "kubeflow has no such setting"),
        (("--on", "slurm", "--job-arg", "nodes=3"), 0, "--job-arg nodes: the script decides it"),
        (("--on", "slurm", "--job-arg", "a=b\nscancel"), 0, "needs KEY=VALUE on one line"),
        (("--on", "skypilot", "--run-dir", "/r", "--job-arg", "volume=v:/x"), 0, "is not on the volume at /x"),
        ((*SKY, "/r/../s"), 0, "without `..`"),
        ((*SKY, "/r", "--job-arg", "disk_size=1TB"), 0, "disk_size=1TB: needs a number of GB"),
        ((*SKY, "/r", "--job-arg", "use_spot=yes"), 0, "use_spot=yes: needs true or false"),
        (("--num-machines", "1", "--set", "launch.config_file=no.yaml"), 0, "there is no file no.yaml in"),
    ],
)
def test_refused_before_anything_starts(
    typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], gpus: int, said: str
) -> None:
    """What cannot work is refused with exit code 2, and no launcher is started."""
    monkeypatch.setattr("ctxkit.commands.supervise", lambda *_: pytest.fail("something was started"))
    code, out, found = typed(*words, gpus=gpus)
    assert (code, out) == (ExitCode.RECIPE, "")
    assert said in found


def test_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """GPUs are those that the driver lists and the variable leaves visible."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: x)'\necho 'GPU 1: A (UUID: y)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for visible, count in ((None, 2), ("0", 1), ("", 0), ("-1", 0), ("0,1,2", 2)):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert launching.devices() == count


OUTCOMES = [
    (0, 0, [0, 0], 0, False),
    (1, 0, [5, 75], 5, False),  # the first that ended tells why: the launcher stopped the other
    (1, signal.SIGTERM, [75, 75], 75, False),
    (1, signal.SIGTERM, [], 75, False),  # before a process could listen
    (1, signal.SIGINT, [], 130, False),
    (1, signal.SIGUSR1, [6, 75], 6, False),  # told to stop, and no room for the checkpoint
    (1, 0, [75], 1, True),  # the other was killed; that this one was stopped is only what followed
    (1, 0, [], 1, True),
    (1, 0, [75, 75], 75, False),  # told by another machine
    (-9, 0, [0, 0], 1, False),
]


@pytest.mark.parametrize(("status", "received", "reported", "code", "told"), OUTCOMES)
def test_outcome(status: int, received: int, reported: list[int], code: int, told: bool) -> None:
    """The exit code is the run's own, and not what a launcher makes of it."""
    found, said = outcome(status, received, reported, 2)
    assert (found, bool(said)) == (code, told)


PROCESS = """
import os, signal, sys, time
from pathlib import Path
place, rank = Path(sys.argv[1]), sys.argv[2]
counted = {"n": 0}
def stop(number, frame):
    counted["n"] += 1
    (place / f"told-{rank}-{signal.Signals(number).name}-{counted['n']}").touch()
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, stop)
(place / f"ready-{rank}").write_text(str(os.getpid()))
while not counted["n"]:
    time.sleep(0.01)
time.sleep(0.4)  # saving
(Path(os.environ["CTXKIT_LAUNCH_STATUS"]) / rank).write_text("75")
sys.exit(75)
"""
LAUNCHER = f"""
import signal, subprocess, sys, time
from pathlib import Path
place = Path(sys.argv[1])
def end(number, frame):
    (place / "launcher-told").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
ranks = [subprocess.Popen([sys.executable, "-c", {PROCESS!r}, str(place), rank], start_new_session=True)
         for rank in "01"]
sys.exit(1 if any([one.wait() for one in ranks]) else 0)
"""
SUPERVISOR = f"""
import sys
from ctxkit.supervising import supervise
sys.exit(supervise(["python", "-c", {LAUNCHER!r}, sys.argv[1]], 2, {{}})[0])
"""


@pytest.fixture
def supervised(tmp_path: Path) -> Callable[[], subprocess.Popen[bytes]]:
    """Start two processes that save when they are told to stop, under a launcher, under `supervise`."""

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", SUPERVISOR, str(tmp_path)])
        wait_until(lambda: all((tmp_path / f"ready-{rank}").exists() for rank in "01"))
        return process

    return start


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; fail after a while."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT], ids=str)
def test_stop_reaches_the_processes_once(
    supervised: Callable[[], subprocess.Popen[bytes]], tmp_path: Path, number: signal.Signals
) -> None:
    """Each process is told once however often the signal comes, the launcher is not, and the code is handed on."""
    process = supervised()
    for _ in range(1 if number == signal.SIGINT else 3):
        process.send_signal(number)
        time.sleep(0.05)
    assert process.wait(20) == ExitCode.PREEMPTED
    assert {path.name for path in tmp_path.glob("told-*")} == {f"told-{rank}-{number.name}-1" for rank in "01"}
    assert not (tmp_path / "launcher-told").exists()


@pytest.mark.slow
def test_second_interrupt_ends_the_launcher(supervised: Callable[[], subprocess.Popen[bytes]], tmp_path: Path) -> None:
    """Whoever presses Ctrl-C twice means it."""
    process = supervised()
    process.send_signal(signal.SIGINT)
    wait_until(lambda: len(list(tmp_path.glob("told-*"))) == 2)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130 or process.returncode == 75
    assert (tmp_path / "launcher-told").exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_killed_supervisor_leaves_no_launcher(
    supervised: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Killed without a word, it takes the launcher with it, which would otherwise hold the run directory."""
    process = supervised()
    process.kill()
    wait_until((tmp_path / "launcher-told").exists)
    for rank in "01":  # what torchrun and accelerate do for theirs, this launcher does not
        os.kill(int((tmp_path / f"ready-{rank}").read_text()), signal.SIGKILL)


def test_children() -> None:
    """The processes that a process started are found, and nobody else's."""
    with subprocess.Popen(["sleep", "60"]) as process:
        found = children(os.getpid())
        process.kill()
    assert process.pid in found
    assert os.getppid() not in found
    assert os.getpid() not in found


def test_exit_code_is_left_for_the_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process leaves the code with which it ends under its rank, before it waits for the first one to speak."""
    monkeypatch.setenv(STATUS, str(tmp_path))
    monkeypatch.setenv("RANK", "3")
    waited: list[str] = []
    monkeypatch.setattr("ctxkit.commands.time.sleep", lambda _: waited.append((tmp_path / "3").read_text()))
    assert main(["run", "no.yaml"]) == ExitCode.RECIPE
    assert waited == ["2"]
    assert main(["plugins"]) == ExitCode.DONE
    assert (tmp_path / "3").read_text() == "2"


def made(engine: str, job: Job = JOB, **settings: str) -> str:
    """Return the job file of an engine."""
    return ENGINES[engine](replace(job, settings={**SETTINGS[engine], **settings}))


def shell_of(engine: str, text: str) -> str:
    """Return what a shell runs in a job file."""
    if engine == "slurm":
        return text
    task = yaml.safe_load(text)
    return task["run"] if engine == "skypilot" else task["spec"]["trainer"]["command"][-1]


TOOLS = {
    "srun": 'shift 2; exec "$@"',
    "scontrol": '[ "$1" = requeue ] && echo "$2" > "$PLACE/requeued" || printf "node1\\nnode2\\n"',
    "ctxkit": 'printf "%s\\0" "$@" > "$PLACE/words"; pwd > "$PLACE/pwd"; exit "$CODE"',
}


@pytest.fixture
def cluster(tmp_path: Path) -> Callable[..., int]:
    """Run a shell text where `srun`, `scontrol` and `ctxkit` write down how they were called."""
    (tmp_path / "bin").mkdir()
    for name, body in TOOLS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)

    def run(text: str, code: int = 0) -> int:
        variables = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PLACE": str(tmp_path), "CODE": str(code)}
        variables |= {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SKYPILOT_NODE_IPS": "node1\nnode2"}
        variables |= {"MASTER_ADDR": "node1", "MASTER_PORT": "29500"}
        return subprocess.run(["bash", "-c", text], env=variables, check=False, cwd=tmp_path).returncode

    return run


@pytest.mark.parametrize("engine", ENGINES)
def test_every_path_is_quoted(engine: str, tmp_path: Path, cluster: Callable[..., int]) -> None:
    """A shell that runs the job file calls `ctxkit launch` with each path as one word, whatever is in it."""
    (tmp_path / "o'brien/my work").mkdir(parents=True)
    job = replace(JOB, folder=str(tmp_path / "o'brien/my work"))
    assert cluster(shell_of(engine, made(engine, job))) == 0
    words = (tmp_path / "words").read_text().split("\0")[:-1]
    assert words[:6] == ["launch", JOB.recipe, "--num-processes", "16", "--num-machines", "2"]
    assert words[words.index("--run-dir") + 1] == ODD
    assert words[words.index("--main-process-ip") + 1] == "node1"
    port = {"slurm": "20007"}.get(engine, "29500")
    assert words[words.index("--main-process-port") + 1] == port
    if engine == "slurm":
        assert (tmp_path / "pwd").read_text().strip() == job.folder


@pytest.mark.parametrize(("code", "again"), [(0, False), (75, True), (1, False), (5, False)])
def test_slurm_queues_a_preempted_job_again(
    code: int, again: bool, tmp_path: Path, cluster: Callable[..., int]
) -> None:
    """Exit code 75 alone queues the job again; the job ends with the code of the run."""
    text = made("slurm", replace(JOB, folder=str(tmp_path)))
    assert cluster(text, code) == code
    assert (tmp_path / "requeued").exists() == again


@pytest.mark.slow
def test_slurm_hands_the_warning_on(tmp_path: Path, cluster: Callable[..., int]) -> None:
    """SIGUSR1 to the batch shell reaches the task, and the script waits until that has saved."""
    saving = "trap 'sleep 0.3; exit 75' USR1; kill -USR1 $PPID; for i in $(seq 100); do sleep 0.05; done; exit 1"
    text = made("slurm", replace(JOB, folder=str(tmp_path)))
    (tmp_path / "bin/srun").write_text(f"#!/bin/bash\n{saving}\n")
    assert cluster(text) == 75
    assert (tmp_path / "requeued").read_text() == "7\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_no_secret_is_written(engine: str) -> None:
    """The token of the hub is named at most, never shown."""
    text = made(engine, replace(JOB, has_token=True))
    assert "HF_TOKEN" in text
    if engine == "skypilot":
        assert yaml.safe_load(text)["secrets"] == {"HF_TOKEN": None}
        assert "secrets" not in yaml.safe_load(made(engine))
    if engine == "kubeflow":
        (variable,) = yaml.safe_load(text)["spec"]["trainer"]["env"]
        assert variable["valueFrom"]["secretKeyRef"]["key"] == "HF_TOKEN"
        assert "value" not in variable


def test_a_secret_that_was_typed_is_refused(typed: Callable[..., Any], tmp_path: Path) -> None:
    """A password on the command line would stand in the file for all to read."""
    words = ("--on", "slurm", "--out", "job.sh", "--job-arg", "setup=curl https://me:hunter2hunter2@example.org/")
    code, _, said = typed(*words)
    assert code == ExitCode.RECIPE
    assert "the job file would hold a secret" in said
    assert "hunter2" not in said
    assert not (tmp_path / "job.sh").exists()


def test_what_was_typed_is_handed_on(typed: Callable[..., Any]) -> None:
    """How the run goes on, and what is trusted, reach every machine."""
    going = ("--resume", "must", "--on-change", "keep", "--allow-drift", "--quick")
    script = typed("--on", "slurm", *going, "--trust", "hub_model_id")[1]
    (line,) = [line for line in script.splitlines() if line.startswith("srun")]
    assert line.endswith("--resume must --on-change keep --allow-drift --quick --trust hub_model_id &")
    assert typed("--dry-run", "--resume", "never")[1].endswith("ctxkit run r.yaml --resume never\n")


def test_slurm_options() -> None:
    """What the script asks of Slurm, and what was typed, each on a line of its own; typed ones come last."""
    lines = [line for line in made("slurm", output="my log.txt").splitlines() if line.startswith("#SBATCH")]
    options = dict(line.removeprefix("#SBATCH --").partition("=")[::2] for line in lines)
    assert options["nodes"] == "2"
    assert options["gpus-per-node"] == "8"
    assert options["signal"] == "B:USR1@300"
    assert options["requeue"] == ""
    assert options["comment"] == "'two words'"
    assert options["output"] == "'my log.txt'"


def test_slurm_takes_the_script(tmp_path: Path) -> None:
    """Where Slurm is installed, it says itself whether it would."""
    file = tmp_path / "job.sh"
    file.write_text(ENGINES["slurm"](replace(JOB, folder=str(tmp_path))))
    subprocess.run(["bash", "-n", str(file)], check=True)
    try:
        done = subprocess.run(["sbatch", "--test-only", str(file)], check=False, capture_output=True, text=True)
    except FileNotFoundError:
        return
    assert "nvalid" not in done.stderr


def test_skypilot_takes_the_task(tmp_path: Path) -> None:
    """SkyPilot's own reader accepts the file; needs its package."""
    sky = pytest.importorskip("sky")
    file = tmp_path / "task.yaml"
    file.write_text(made("skypilot"))
    task = sky.Task.from_yaml(str(file))
    assert task.num_nodes == 2
    (resources,) = task.resources
    assert resources.accelerators == {"H100": 8}
    assert resources.use_spot


def test_skypilot_without_its_package() -> None:
    """The parts by which a job is got up again."""
    task = yaml.safe_load(made("skypilot", accelerators="A100:4", use_spot="True", disk_size="500"))
    assert (task["resources"]["use_spot"], task["resources"]["disk_size"]) == (True, 500)
    assert task["resources"]["accelerators"] == "A100:4"
    assert task["resources"]["job_recovery"] == {"recover_on_exit_codes": [75]}
    assert task["volumes"] == {"/data": "runs"}


@pytest.mark.skipif("CTXKIT_TRAINJOB_CRD" not in os.environ, reason="needs CTXKIT_TRAINJOB_CRD, a file of Kubeflow's")
def test_kubeflow_takes_the_job() -> None:
    """The schema in Kubeflow's own resource definition of a TrainJob accepts the file, and has no key too many."""
    definition = yaml.safe_load(Path(os.environ["CTXKIT_TRAINJOB_CRD"]).read_text())
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    close(schema)
    schema["properties"]["metadata"] = {"type": "object"}
    jsonschema.validate(yaml.safe_load(made("kubeflow")), schema)
    broken = yaml.safe_load(made("kubeflow"))
    broken["spec"]["trainer"]["nodes"] = 2
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


def close(schema: Any) -> None:
    """Have a schema refuse keys that it does not name, which a cluster would drop."""
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            close(value)


def test_kubeflow_without_its_schema() -> None:
    """Names are those that Kubernetes takes, and pods have time to save."""
    job = yaml.safe_load(made("kubeflow"))
    assert job["metadata"] == {"name": "a-b-c-1", "namespace": "team"}
    assert job["spec"]["trainer"]["resourcesPerNode"]["limits"] == {"nvidia.com/gpu": 8}
    assert "terminationGracePeriodSeconds: 300" in made("kubeflow")


def test_a_job_of_one_machine_says_so(typed: Callable[..., Any]) -> None:
    """The recipe states two, which the line in the job would take up again."""
    out = typed("--on", "slurm", "--num-machines", "1")[1]
    assert "ctxkit launch r.yaml --num-processes 4 --num-machines 1 &" in out


def test_written_over_nothing_else(typed: Callable[..., Any], tmp_path: Path) -> None:
    """The same file may be written again; another is not lost."""
    words = ("--on", "slurm", "--out", "job.sh")
    assert typed(*words)[0] == ExitCode.DONE
    assert typed(*words)[0] == ExitCode.DONE
    (tmp_path / "job.sh").write_text("mine")
    code, _, said = typed(*words)
    assert code == ExitCode.RECIPE
    assert "job.sh is there and says something else" in said
    assert (tmp_path / "job.sh").read_text() == "mine"
    assert typed("--on", "slurm", "--out", "no/where.sh")[0] == ExitCode.DISK


def test_arguments() -> None:
    """A value may hold anything printable; a key alone is none."""
    assert parse_arguments(["a-b=c=d e"]) == {"a-b": "c=d e"}
    with pytest.raises(CtxkitError, match="KEY=VALUE"):
        parse_arguments(["time"])
