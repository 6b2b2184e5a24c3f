"""Run stages that outgrow one machine on Ray: started here, or the cluster at $RAY_ADDRESS."""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from experiments import UsageError
from experiments.runs.cli import USER_ERRORS, sentence

if TYPE_CHECKING:
    from embeddings.images.extract import Found, Passes

#: "local" is this machine without Ray; "ray" is a Ray of its own on all cores, or the cluster at $RAY_ADDRESS.
Engine = Literal["local", "ray"]

#: Environment of Ray, unless it is set outside: no usage reports, no warnings, and no lines about lost workers among
#: results and bars.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",
}

#: Times that Ray is started on this machine before its failure is reported: on a busy one its own waiting is too short.
STARTS = 3

#: How often a task is started again whose process or machine was lost, before the command gives up.
RETRIES = 5

#: Forward passes that an actor makes in one go: about a second of work.
PASSES_AT_ONCE = 8


def check(engine: Engine) -> None:
    """Raise ``UsageError`` if ``engine`` is not installed: before the work, not in the middle of it."""
    if engine == "ray" and not importlib.util.find_spec("ray"):
        raise UsageError("--engine ray needs Ray, which is not installed: pip install -e .[cluster], or leave it out")


def set_environment(**more: str) -> str | None:
    """Set what Ray reads at its import, ``QUIET`` and ``more``, unless set outside; return $RAY_ADDRESS, if any."""
    for name, value in {**QUIET, **more}.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS")
    if address not in (None, "", "local"):
        return address
    # A Ray started here listens on the loopback address alone, whatever is set outside: whoever reaches its ports may
    # run code.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    return None


@contextmanager
def cluster(**here: Any) -> Iterator[Any]:
    """Yield the module ``ray``, joined to the cluster at $RAY_ADDRESS, else to a Ray started here on all cores.

    It is left or stopped at the end; within another such block nothing is done. ``here`` holds more arguments of
    ``ray.init`` for a start here. Raises ``UsageError`` where no cluster answers, and where Ray does not start.
    """
    address = set_environment()
    import ray

    if ray.is_initialized():
        yield ray
        return
    where = {"address": address} if address else {"address": "local", "include_dashboard": False, **here}
    for attempt in range(1, STARTS + 1):
        try:
            host, _, port = (address or "").rpartition("/")[2].rpartition(":")
            if port.isdigit():  # Where nobody listens Ray itself would end this process after a long time.
                socket.create_connection((host, int(port)), timeout=10).close()
            with _muted():
                ray.init(**where, logging_level=logging.CRITICAL, log_to_driver=False)
            break
        except Exception as error:  # Of many kinds, and of no common one.
            ray.shutdown()
            why = sentence(error) or type(error).__name__
            if address:
                raise UsageError(
                    f"no Ray cluster answers at RAY_ADDRESS {address} ({why}): start one there, set "
                    "RAY_AUTH_MODE=token if it asks for one, or unset RAY_ADDRESS"
                ) from None
            if attempt == STARTS:
                raise UsageError(f"Ray does not start on this machine ({why}): try again") from None
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _muted() -> Iterator[None]:
    """Keep Ray's C++ start-up messages off standard error."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run_tasks(
    function: Callable[..., Any], jobs: Mapping[str, Sequence[Any]], at_once: int = 0
) -> Iterator[tuple[str, Any]]:
    """Run ``function(*job)`` of each job as a Ray task on one core; yield (name, result) as each finishes.

    ``at_once`` tasks run at a time, 0 as many as there are cores. Raises a task's error if it is a user error, and
    ``UsageError`` for a task that was started again ``RETRIES`` times.
    """
    with cluster() as ray:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
        waiting, working = list(jobs), dict[Any, str]()
        try:
            while waiting or working:
                while waiting and (at_once == 0 or len(working) < at_once):
                    name = waiting.pop(0)
                    working[task.remote(*jobs[name])] = name
                for reference in ray.wait([*working])[0]:
                    yield working.pop(reference), ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, USER_ERRORS):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise UsageError(
                f"a process of Ray was lost {RETRIES + 1} times ({type(error).__name__}; out of memory?): give the "
                "command again to go on, with fewer --workers if it is lost again"
            ) from None
        finally:
            for reference in working:
                ray.cancel(reference, force=True)


def run_passes(passes: Passes) -> Iterator[Found]:
    """Compute the forward passes of an extraction by Ray, in order: ``compute`` of ``embeddings.images.extract``.

    Each actor has its own copy of the network and a GPU, or as many cores as this process has threads of torch, since
    their number decides the last bits. Raises ``UsageError`` where no machine is large enough, or lacks the photos.
    """
    import torch

    threads, gpu = torch.get_num_threads(), torch.device(passes.device).type == "cuda"
    with cluster() as ray:
        from ray.util import ActorPool

        cores, actors = _fit(ray, threads, gpu)
        starts = range(0, len(passes), PASSES_AT_ONCE)
        blocks = [range(start, min(start + PASSES_AT_ONCE, len(passes))) for start in starts]
        passes.network.module.cpu()
        shared = ray.put(passes)
        actor = ray.remote(num_cpus=cores, num_gpus=int(gpu), max_restarts=-1, max_task_retries=-1)(_Passes)
        pool = [actor.remote(shared, threads, cores) for _ in range(min(actors, len(blocks)))]
        try:
            for made in ActorPool(pool).map(lambda actor, block: actor.make.remote(block), blocks):
                for images, vectors, failures in made:
                    for image, reason in failures.items():
                        path = passes.paths[image]
                        if os.strerror(errno.ENOENT) in reason and path.exists():
                            raise UsageError(f"{path} is not on another machine of Ray's: put photos on a shared disk")
                    yield images, vectors.copy(), failures  # A view would keep Ray's copy alive.
        finally:
            for each in pool:
                ray.kill(each)


class _Passes:  # An actor.
    def __init__(self, passes: Passes, threads: int, openers: int) -> None:
        passes.network.module.to(passes.device)
        self.passes, self.threads, self.openers = passes, threads, ThreadPoolExecutor(openers)

    def make(self, which: Sequence[int]) -> list[Found]:
        from cgan.devices import prepare_cpu

        prepare_cpu(self.threads)  # Of the thread that computes, which Ray may change: as in the command's own process.
        return list(self.passes.run(which, self.openers))


def _fit(ray: Any, threads: int, gpu: bool) -> tuple[int, int]:
    """Return the cores of each actor, and how many actors the cluster holds."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpu:
        machines = [machine for machine in machines if machine.get("GPU", 0) >= 1]
        cores = min((max(1, int(machine.get("CPU", 0) // machine["GPU"])) for machine in machines), default=1)
        actors = sum(int(machine["GPU"]) for machine in machines)
    else:
        cores, actors = threads, sum(int(machine.get("CPU", 0) // threads) for machine in machines)
    if not actors:
        need = "a GPU" if gpu else f"{threads} cores, as many as this process has threads"
        advice = "give --device cpu" if gpu else "give fewer --threads"
        raise UsageError(f"no machine of the Ray cluster has {need}: {advice}, or leave --engine ray out")
    return cores, actors
