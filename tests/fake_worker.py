"""A worker that misbehaves on demand: `python fake_worker.py MODE`, envelope on standard input as the real one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


def main(mode: str) -> None:
    envelope = json.load(sys.stdin)
    outcome = Path(envelope["outcome_path"])

    def say(**message: object) -> None:
        if envelope["progress_fd"] is None:
            return
        os.write(envelope["progress_fd"], json.dumps(message).encode() + b"\n")

    say(phase="fake")
    match mode:
        case "ok":
            say(done=1, total=2)
            outcome.write_text('{"status": "ok"}')
        case "junk-on-stdout":
            print("\x00\xff not a protocol" * 100)
            outcome.write_text('{"status": "ok"}')
        case "junk-on-pipe":
            os.write(envelope["progress_fd"], b"\xff\xfe{{{\n[1]\n\n")
            outcome.write_text('{"status": "ok"}')
        case "junk-outcome":
            outcome.write_text('{"status": "splendid"}')
        case "no-outcome":
            print("went away quietly", file=sys.stderr)
        case "crash":
            raise RuntimeError("deliberate crash")
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "met":
            outcome.with_name("rendezvous-done").touch()
            outcome.write_text('{"status": "ok"}')
        case "pause":
            time.sleep(1)
            outcome.write_text('{"status": "ok"}')
        case "silent":
            time.sleep(600)
        case "busy":
            for done in range(6000):
                say(done=done, total=6000)
                time.sleep(0.1)
        case "children":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
            grandchild = subprocess.Popen(["sleep", "600"])
            Path(os.environ["FAKE_PIDS"]).write_text(f"{os.getpid()} {child.pid} {grandchild.pid}")
            time.sleep(600)
        case "environment":
            outcome.write_text(json.dumps({"status": "ok", "message": json.dumps(dict(os.environ))}))


if __name__ == "__main__":
    main(sys.argv[1])
