"""A Slurm cluster of one machine: munged, slurmctld and slurmd with their files in one folder, as the current user."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMANDS = ("sbatch", "squeue", "scancel", "slurmctld", "slurmd", "munged")
_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
MinJobAge=300
SchedulerParameters=sched_interval=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def available() -> bool:
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin"
    return all(shutil.which(command, path=path) for command in COMMANDS)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster(folder: Path) -> Iterator[Path]:
    """Start the cluster, and yield its slurm.conf, which SLURM_CONF must name."""
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    for path in (folder, folder / "munge.key"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    host = socket.gethostname().split(".")[0]
    values = {"host": host, "user": getpass.getuser(), "folder": folder, "cpus": len(os.sched_getaffinity(0))}
    config = folder / "slurm.conf"
    config.write_text(_CONFIG.format(controller=_free_port(), node=_free_port(), **values))
    environment = os.environ | {"SLURM_CONF": str(config), "PATH": os.environ["PATH"] + os.pathsep + "/usr/sbin"}
    munge = [f"--{name}={folder}/munge.{end}" for name, end in (("socket", "socket"), ("key-file", "key"))]
    munge += [f"--pid-file={folder}/munge.pid", f"--log-file={folder}/munge.log", f"--seed-file={folder}/munge.seed"]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for command in (
            ["munged", "--foreground", "--force", *munge],
            ["slurmctld", "-D", "-f", str(config)],
            ["slurmd", "-D", "-f", str(config), "-N", host],
        ):
            with (folder / f"{command[0]}.out").open("wb") as output:
                started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
            time.sleep(0.5)
        _wait_for(environment, folder)
        yield config
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(timeout=30)


def _wait_for(environment: dict[str, str], folder: Path) -> None:
    end = time.monotonic() + 60
    while True:
        done = subprocess.run(["sinfo", "--noheader", "--format=%T"], env=environment, capture_output=True, text=True)
        if done.stdout.strip() in ("idle", "mixed", "allocated"):
            return
        if time.monotonic() > end:
            logs = "\n".join(f"{log.name}: {log.read_text()[-800:]}" for log in folder.glob("*.[lo][ou][gt]"))
            raise AssertionError(f"Slurm did not start: {done.stdout} {done.stderr}\n{logs}")
        time.sleep(0.3)
