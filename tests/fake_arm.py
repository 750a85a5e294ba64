"""An arm's worker with made-up times: `python fake_arm.py [ROLE]`, the messages of `cnnbench.paired_protocol` as the real one.

Its role is head where a job has one thread, else base, unless it is named. What it does comes from FAKE_BASE or FAKE_HEAD:
a factor for its steps, or a way to misbehave; where the revision it runs holds a file `fake-arm`, from that: a line per workload
such as `gemm 1.2`, or per division such as `tuned 1.2`, which comes first. With FAKE_LOG every event is written there with its
time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import cnnbench

TORCH = os.environ.get("FAKE_TORCH", "2.13.0")
SOFTWARE = {"cnnbench": "0", "python": "3.11.9", "torch": TORCH, "torch_build": "cpu", "numpy": "2.3.0"}
STEP_SECONDS = 0.01


def log(*words: object) -> None:
    if path := os.environ.get("FAKE_LOG"):
        with Path(path).open("a") as file:
            file.write(" ".join(map(str, (time.monotonic(), os.getpid(), *words))) + "\n")


def main(role: str | None) -> None:
    lines = iter(sys.stdin.buffer.readline, b"")
    answer_fd = json.loads(next(lines))["answer_fd"]

    def answer(**message: object) -> None:
        os.write(answer_fd, json.dumps(message).encode() + b"\n")

    log("start")
    modes = modes_of_revision()
    if os.environ.get("FAKE_BOTH") == "old":
        sys.exit(f"{sys.executable}: No module named cnnbench.engine.turns")
    if os.environ.get("FAKE_BOTH") == "broken":
        raise ImportError("deliberate")
    package = str(Path(cnnbench.__file__).resolve().parent)
    answer(hello={"spoken": 1, "package": package, "software": SOFTWARE})
    setup: dict[str, dict[str, dict[str, object]]] = {}
    job: dict[str, object] = {}
    mode, steps, job_number = "1.0", 0, 0
    for line in lines:
        message = json.loads(line)
        if "do" not in message:
            setup = message
            continue
        if message["do"] == "build":
            job_number = message["job"]
            job = setup["jobs"][str(job_number)]
            own = role or ("head" if job.get("threads") == 1 else "base")
            mode = modes.get(str(job["workload"]), os.environ.get(f"FAKE_{own.upper()}", "1.0"))
            mode = modes.get(str(job.get("division")), mode)
            log("build", own)
            if mode == "unsupported":
                answer(failed={"status": "unsupported", "message": "cannot do this"})
                return
            answer(ready=True)
            steps = 0
        elif message["do"] == "turn":
            log("turn", own, "begins")
            misbehave(mode)
            if mode == "junk":
                os.write(answer_fd, b"{{{ not an answer\n")
            steps += message["steps"]
            again = float(setup.get("again", {}).get(str(job_number), 0)) * float(os.environ.get("FAKE_SHARE", "0"))  # type: ignore[arg-type]
            seconds = STEP_SECONDS * factor(mode) * (1 + again)
            time.sleep(float(os.environ.get("FAKE_SLEEP", "0")))
            log("turn", own, "ends")
            kept = message["steps"] - 1
            injected = {"injected_seconds": [STEP_SECONDS * factor(mode) * again] * kept} if again else {}
            answer(turn={"step_seconds": [seconds] * kept, "control_seconds": 0.001, **injected})
        elif message["do"] == "share":
            answer(share={"again": message["share"], "measured": message["share"]})
        elif message["do"] == "finish":
            answer(work=work(job, steps, mode))
        elif message["do"] == "end":
            log("end")
            return
    log("orphan")


def modes_of_revision() -> dict[str, str]:
    """By workload or division; none where the arm's folder, the first that packages are found in, holds no such file."""
    path = Path(os.environ.get("PYTHONPATH", "").split(os.pathsep)[0]) / "fake-arm"
    return dict(line.split() for line in path.read_text().splitlines()) if path.is_file() else {}


def factor(mode: str) -> float:
    try:
        return float(mode)
    except ValueError:
        return 1.0


def misbehave(mode: str) -> None:
    match mode:
        case "crash":
            raise RuntimeError("deliberate crash")
        case "crash-once":
            flag = Path(os.environ["FAKE_LOG"]).with_suffix(".crashed")
            if not flag.exists():
                flag.touch()
                raise RuntimeError("deliberate crash")
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(600)
        case "chatty":
            print("\x00 not a protocol", flush=True)


def work(job: dict[str, object], steps: int, mode: str) -> dict[str, object]:
    less = 1 if mode == "less-work" else 0
    return {
        "images": (steps - less) * int(str(job.get("batch_size", 128))),
        "batches": steps - less,
        "order_digest": "order",
        "parameters": 10,
        "flops": 1000 * steps,
        "optimizer_steps": steps,
        "precision": job.get("precision", "fp32"),
        "first_losses": [2.3, 2.2, 2.1, 2.0, 1.9],
        "final_loss": 0.5,
    }


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
