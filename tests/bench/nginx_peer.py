"""nginx as a plain reverse proxy: the floor of what passing a request on costs in C. It authenticates and meters nothing.

`nginx_program` finds or installs it: from PATH; else by apt as root; else Debian's package unpacked below `.bench/`.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from gateway_load import Target
from processes import HERE, pinned, stop

NGINX = "nginx"
PEERS = HERE.parent.parent / ".bench"
"""Where the bench keeps what it is compared with; git ignores it."""
_APT_TIMEOUT_S = 180
_START_TIMEOUT_S = 10.0

_CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 100000000;
  upstream replica {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://replica; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; client_body_buffer_size 64k;
    }}
  }}
}}
"""


@contextlib.contextmanager
def nginx(program: Path, folder: Path, *, upstream_port: int) -> Iterator[Target]:
    """`program` in front of the upstream until the block ends, one worker on core 0."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    configuration = folder / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=port, upstream_port=upstream_port))
    command = pinned([str(program), "-p", str(folder), "-c", str(configuration), "-e", "stderr"], core=0)
    process = subprocess.Popen(command, text=True, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield Target(name=NGINX, pid=process.pid, port=port)
    finally:
        stop(process)


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    """Raises: RuntimeError when it has ended, TimeoutError when nothing listens."""
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"nginx ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise TimeoutError(f"nginx does not listen on port {port} after {_START_TIMEOUT_S} s")


def nginx_program() -> Path | None:
    """The program, installed where it can be; None where it cannot, which is said by the one who asks."""
    unpacked = PEERS / "nginx" / "usr" / "sbin" / "nginx"
    for found in (shutil.which("nginx"), "/usr/sbin/nginx", unpacked):
        if found and Path(found).is_file():
            return Path(found)
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        _install()
        return Path("/usr/sbin/nginx") if Path("/usr/sbin/nginx").is_file() else None
    _unpack(PEERS / "nginx")
    return unpacked if unpacked.is_file() else None


def _install() -> None:
    """By apt, without a service started: nothing of ours may listen on port 80."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    install = ["apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", "nginx-light"]
    for command in (install, ["apt-get", "update", "--quiet=2"], install):
        done = subprocess.run(
            command, check=False, capture_output=True, env=environment, timeout=_APT_TIMEOUT_S
        )
        if command is install and done.returncode == 0:
            return


def _unpack(folder: Path) -> None:
    """Without root: the package's own files, which need no installation to run."""
    folder.mkdir(parents=True, exist_ok=True)
    packages = ["nginx-light", "nginx"]  # Before Debian 12 the program is in nginx-light itself.
    subprocess.run(
        ["apt-get", "download", *packages],
        cwd=folder,
        check=False,
        capture_output=True,
        timeout=_APT_TIMEOUT_S,
    )
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder], check=False, capture_output=True, timeout=60)
