"""The machine: cores, threads, and a description to print beside numbers."""

from __future__ import annotations

import contextlib
import errno
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


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory could not be had: of Python, numpy, torch or the system."""
    words = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "failed to map")
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (
            isinstance(error, RuntimeError | ImportError)
            and any(word in str(error).lower() for word in words)
        )
    )


@contextlib.contextmanager
def memory_errors(setting: str) -> Iterator[None]:
    """Turns a failed allocation into a UserError that names the setting to make smaller."""
    try:
        yield
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise UserError(f"out of memory; set {setting} lower, or take a smaller model") from None


def require_memory(needed: float, device: torch.device, what: str, remedy: str) -> None:
    """Refuses work that needs more memory than a device has free.

    needed: bytes, an estimate.
    what: that needs them, as a message begins; remedy: what makes it need less.

    Raises UserError.
    """
    free = available_memory(device)
    if needed > free:
        raise UserError(
            f"{what}: needs about {needed / 2**30:,.1f} GiB of memory, and {free / 2**30:,.1f} are "
            f"free; {remedy}"
        )


def local_device() -> torch.device:
    """The GPU of this process where there is one, else the CPU."""
    import torch

    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def _left_to_process() -> int:
    """Bytes that a limit of the process (`ulimit -v`) leaves it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            return max(0, limit - pages * resource.getpagesize())
    return 1 << 62


def available_memory(device: torch.device) -> int:
    """Bytes that are free on a device: of the GPU, else of the memory, as far as a container and
    the limits of the process may.

    Very many where the system does not say.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = _left_to_process()
    with contextlib.suppress(OSError, ValueError):
        told = re.search(
            r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE
        )
        free = min(free, 1024 * int(told[1])) if told else free
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
