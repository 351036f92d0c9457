"""A machine of one's own at 127.0.0.1 that `ray up` can reach by ssh."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.tune.cluster.head import free_port

REPOSITORY = Path(__file__).parents[2]
SSHD = shutil.which("sshd") or shutil.which("/usr/sbin/sshd")


@dataclass(frozen=True)
class LocalCluster:
    """What the commands of docs/cluster.md need here.

    Attributes:
        config: the shipped cluster file for this machine.
        environment: for commands of the one who starts the cluster.
        home: home folder of the cluster's machine.
        dashboard: the dashboard's address, once the cluster is up.
    """

    config: Path
    environment: dict[str, str]
    home: Path
    dashboard: str


@contextmanager
def local_cluster(folder: Path) -> Iterator[LocalCluster]:
    """Prepare an ssh server and the files for a cluster; end all that was started there.

    The machine has a home folder, an interpreter and a Ray folder of its own below `folder`. Its
    `ray stop` ends only its own processes: Ray's ends those of everybody on the machine.
    """
    port, head, dashboard, agent = (free_port() for _ in range(4))
    home, user, keys = folder / "h", folder / "u", folder / "k"
    for place in (home / "bin", user / "bin", keys):
        place.mkdir(parents=True)
    _make_interpreter(home)
    _make_keys(keys)
    profile = f'export PATH="{home}/bin:{home}/env/bin:$PATH" HOME="{home}"\ncd "{home}"\n'
    (home / ".bash_profile").write_text(profile)
    _write_script(
        home / "bin" / "ray",
        f'[ "$1" = stop ] && PYTHONPATH={REPOSITORY} exec {sys.executable}'
        f' -m tests.cluster.local_cluster "{home}"\n'
        f'exec "{home}/env/bin/ray" "$@"\n',
    )
    _write_script(user / "bin" / "ssh", f'exec {shutil.which("ssh")} -p {port} "$@"\n')
    (keys / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {keys}/host\nPidFile {keys}/pid\n"
        f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n"
        f"PasswordAuthentication no\n"
        f"SetEnv HOME={home} RAY_TMPDIR={folder}/t RAY_USAGE_STATS_ENABLED=0\n"
    )
    start = f"ray start --head --port={head} --dashboard-port={dashboard} --num-cpus=2"
    start += f" --dashboard-agent-listen-port={agent}"
    start += f" --autoscaling-config={home}/ray_bootstrap_config.yaml"
    config = folder / "cluster.yaml"
    config.write_text(yaml.safe_dump(_adapted(home, keys, start)))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        "PATH": f"{user}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(user),
        "TMPDIR": str(folder / "t"),
        "RAY_TMPDIR": str(folder / "t"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    (folder / "t").mkdir()
    with _sshd(keys, port):
        try:
            yield LocalCluster(config, environment, home, f"http://127.0.0.1:{dashboard}")
        finally:
            end_processes(home)


def _adapted(home: Path, keys: Path, start: str) -> dict[str, Any]:
    """Return the shipped cluster file with another provider, home folder and ports."""
    text = (REPOSITORY / "configs/cluster/ray-cluster.yaml").read_text()
    config: dict[str, Any] = yaml.safe_load(text.replace("/home/ubuntu", str(home)))
    for name in ("available_node_types", "head_node_type", "max_workers"):
        del config[name]
    config["provider"] = {"type": "local", "head_ip": "127.0.0.1", "worker_ips": []}
    config["auth"] = {"ssh_user": getpass.getuser(), "ssh_private_key": str(keys / "user")}
    config["file_mounts"] = {target: str(REPOSITORY) for target in config["file_mounts"]}
    # the dependencies are there; a build environment would download what is installed
    config["setup_commands"] = [
        command.replace("pip install", "pip install --no-deps --no-build-isolation")
        for command in config["setup_commands"]
    ]
    config["head_start_ray_commands"] = [start]
    return config


def _make_interpreter(home: Path) -> None:
    """Make a virtual environment that also sees what this interpreter has installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "env"], check=True)
    own = sysconfig.get_paths(vars={"base": str(home / "env"), "platbase": str(home / "env")})
    (Path(own["purelib"]) / "inherited.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    for name, module in (("ray", "ray.scripts.scripts"), ("pip", "pip")):
        _write_script(home / "env/bin" / name, f'exec "{home}/env/bin/python" -m {module} "$@"\n')


def _make_keys(keys: Path) -> None:
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(command, check=True)


def _write_script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/bash\n{body}")
    path.chmod(0o755)


@contextmanager
def _sshd(keys: Path, port: int) -> Iterator[None]:
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself up
    log = keys / "sshd.log"
    command = [str(SSHD), "-D", "-f", str(keys / "sshd_config"), "-E", str(log)]
    server = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 20
        while not log.exists() or f"port {port}" not in log.read_text():
            assert server.poll() is None, log.read_text() if log.exists() else "no log"
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield
    finally:
        server.terminate()
        server.wait(20)


def end_processes(home: Path) -> None:
    """End every process whose home folder is this one, and wait until it is gone."""
    ours = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("HOME") == str(home) and process.pid != os.getpid():
                if "ray" in " ".join(process.cmdline()):
                    ours.append(process)
    for process in ours:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(ours, timeout=10)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=10)


if __name__ == "__main__":
    end_processes(Path(sys.argv[1]))
