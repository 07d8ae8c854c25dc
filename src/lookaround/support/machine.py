"""The machine: cores, threads, and a description to print beside numbers."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookaround import __version__
from lookaround.support.errors import UserError

if TYPE_CHECKING:
    import torch


# read at import: a pool of processes sets the variable later
_ASKED = os.environ.get("OMP_NUM_THREADS", "")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def jobs_of(asked: int | None, most: int) -> int:
    """Processes of a study of `most` jobs: the number asked for, else one per core or GPU."""
    import torch

    return min(asked or (1 if torch.cuda.is_available() else usable_cores()), most)


def threads_of(jobs: int) -> int:
    """Threads of each of `jobs` processes: its share of the cores, at most OMP_NUM_THREADS."""
    share = max(1, usable_cores() // jobs)
    return min(share, int(_ASKED)) if _ASKED.isdigit() and int(_ASKED) else share


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Holds torch to `count` threads for the length of the block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def memory_errors(setting: str) -> Iterator[None]:
    """Turns a failed allocation into a UserError that names the setting to make smaller."""
    import torch

    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and "can't allocate memory" not in str(error):
            raise
        raise UserError(f"out of memory; set {setting} lower, or take a smaller model") from None


def local_device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    import torch

    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def available_memory(device: torch.device) -> int:
    """Bytes that are free on a device: of the GPU, else of the memory, as far as a container may.

    Very many where the system does not say.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = 1 << 62
    with contextlib.suppress(OSError, ValueError):
        told = re.search(
            r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE
        )
        free = 1024 * int(told[1]) if told else free
        group = Path("/sys/fs/cgroup")
        most, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        files = re.search(r"^file (\d+)", (group / "memory.stat").read_text(), re.MULTILINE)
        free = min(free, int(most) - int(used) + (int(files[1]) if files else 0))
    return free


def machine(jobs: int, threads: int) -> dict[str, Any]:
    """What a study of this many processes, of this many threads each, ran on."""
    import torch

    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        named = re.search(r"^model name[^:]*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        cpu = named[1].strip() if named else cpu
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory, 1),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.release()}",
        "threads": threads,
        "jobs": jobs,
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    from importlib.metadata import version

    names = ("torch", "transformers", "tokenizers", "datasets", "numpy", "scipy", "scikit-learn")
    return {
        "lookaround": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }
