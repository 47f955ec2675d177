"""Random faults against real runs, for as long as wanted: `python -m tests.soak --faults 200`.

Each run is small and real. While it goes on, it is killed, interrupted, starved of disk, or its
checkpoints are damaged, and it is gone on with until it is finished. Counted are: work lost
beyond what one checkpoint interval holds, files that are not whole, wrong exit codes or words, and
results that differ from those of a run that nothing disturbed.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from PIL import Image

from nst_tf.errors import InputError
from nst_tf.jobs import checkpoint
from tests.command import command, environment, run_folder
from tests.test_interrupted import children_of, digest, flags, record, rows

_EVERY = 0.3
"""Seconds between checkpoints."""

_ALLOWED = 5.0
"""Seconds of work that may be lost: the interval, or 50 times what a save takes."""

FAULTS = ("kill", "kill-worker", "int", "term", "hup", "disk", "truncate", "flip", "nan")

NAN = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
from nst_tf import optimizers, system
with system.quiet():
    from nst_tf.engine import stylizer
real, count, bad = optimizers.minimize, 0, int(os.environ["BAD_EVALUATION"])
def poisoned(value_and_gradients, *arguments, **options):
    def evaluate(x):
        global count
        count += 1
        value, gradients = value_and_gradients(x)
        return value, gradients * float("nan") if count == bad else gradients
    return real(evaluate, *arguments, **options)
optimizers.minimize = poisoned
from nst_tf import main
sys.exit(main.main(sys.argv[1:]))
"""


class Soak:
    """Faults, and what they broke."""

    def __init__(self, folder, seed):
        self.folder = folder
        self.chance = random.Random(seed)
        self.counts = Counter()
        self.lost = []
        self.wrong = []
        self.reference = folder / "reference.png"
        done = self.finish(self.reference)
        if done.returncode:
            raise SystemExit(f"the undisturbed run failed: {done.stderr}")
        self.seconds = record(self.reference)["seconds"]

    def words(self, output, *more):
        return command(*flags(output, checkpoint_seconds=_EVERY, num_iterations=150), *more)

    def finish(self, output, *more):
        return subprocess.run(
            self.words(output, *more), env=environment(), capture_output=True, text=True,
            timeout=300,
        )  # fmt: skip

    def complain(self, what):
        self.wrong.append(what)
        print("WRONG:", what, flush=True)

    def run(self, number):
        """Disturbs one run up to three times, sees that it ends well, and returns the faults."""
        output = self.folder / f"{number}.png"
        faults = []
        for _ in range(self.chance.randint(1, 3)):
            faults.append(self.chance.choice(FAULTS))
            self.counts[faults[-1]] += 1
            if self.disturb(output, faults[-1]):
                break
        # After a NaN a run goes on from its best image with an empty memory: another good end.
        self.end(output, same_bytes="nan" not in faults)
        return len(faults)

    def resumable(self, output):
        with contextlib.suppress(InputError):
            return checkpoint.newest(run_folder(output)) is not None
        return False

    def disturb(self, output, fault):
        """Starts or goes on with the run under a fault; returns whether it came to its end."""
        more = ["--resume"] if self.resumable(output) else []
        setup = {"env": environment()}
        words = self.words(output, *more)
        if fault == "nan":
            setup["env"]["BAD_EVALUATION"] = str(self.chance.randint(2, 120))
            words = [sys.executable, "-c", NAN, *words[3:]]
        if fault == "disk":
            limit = self.chance.choice([3_000, 50_000, 300_000])
            setup["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        began = time.time()
        with subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **setup,
        ) as child:  # fmt: skip
            if fault in ("disk", "nan"):
                _, stderr = child.communicate(timeout=300)
                self.check_exit(
                    fault, child.returncode, (0, 3) if fault == "disk" else (0,), stderr
                )
                return child.returncode == 0
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.communicate(timeout=self.chance.uniform(0.1, self.seconds))
                return True  # it was quicker
            if fault in ("kill", "truncate", "flip"):
                os.killpg(child.pid, signal.SIGKILL)
                killed = time.time()
                child.communicate()
                self.measure_loss(output, began, killed)
                if fault != "kill":
                    self.damage(output, fault)
                return False
            if fault == "kill-worker":
                workers = children_of(child.pid)
                if workers:
                    os.kill(workers[0], signal.SIGKILL)
                allowed = (3, 0)
            else:
                number = getattr(signal, f"SIG{fault.upper()}")
                child.send_signal(number)
                allowed = (128 + number, 0)
            _, stderr = child.communicate(timeout=60)
            self.check_exit(fault, child.returncode, allowed, stderr)
            return child.returncode == 0

    def check_exit(self, fault, code, allowed, stderr):
        if code not in allowed:
            self.complain(f"{fault}: exit code {code}, not {allowed}: {stderr[-200:]!r}")
        errors = [line for line in stderr.splitlines() if "warning:" not in line]
        if len(errors) != (code != 0):
            self.complain(f"{fault}: not one line: {stderr[-300:]!r}")

    def measure_loss(self, output, began, killed):
        """Notes how much of the work done since the process began was not yet saved."""
        if output.exists():
            return  # all of it was
        times = [path.stat().st_mtime for path in run_folder(output).glob("checkpoint-?")]
        if times and max(times) > began:
            self.lost.append(killed - max(times))
            if self.lost[-1] > _ALLOWED:
                self.complain(f"{self.lost[-1]:.2f} s of work lost")

    def damage(self, output, fault):
        paths = list(run_folder(output).glob("checkpoint-?"))
        if not paths:
            return
        path = self.chance.choice(paths)
        data = bytearray(path.read_bytes())
        if fault == "truncate":
            del data[self.chance.randrange(len(data)) :]
        else:
            data[self.chance.randrange(len(data))] ^= 1 << self.chance.randrange(8)
        path.write_bytes(data)

    def end(self, output, *, same_bytes):
        """Goes on to the end, and compares with the run that nothing disturbed."""
        folder = run_folder(output)
        for path in [output, *folder.glob("*")]:
            if path.suffix == ".png" and path.exists():
                self.check_whole(path)
        more = ["--resume"] if self.resumable(output) else []
        done = self.finish(output, *more)
        if done.returncode:
            self.complain(f"could not be finished: {done.stderr[-300:]!r}")
            return
        found, expected = record(output), record(self.reference)
        if not found["finished"] or len(rows(output)) != found["iterations"] + 1:
            self.complain("the record is not that of a finished run")
        if same_bytes and digest(output) != digest(self.reference):
            self.complain("the image is not that of the undisturbed run")
        if found["loss"] > 1.1 * expected["loss"]:
            self.complain(f"the loss is {found['loss']:.4g}, undisturbed {expected['loss']:.4g}")
        if left := list(self.folder.rglob(".nst_tf-*")):
            self.complain(f"temporaries were left: {left}")
        shutil.rmtree(folder)
        output.unlink()

    def check_whole(self, path):
        try:
            with Image.open(path) as image:
                image.load()
        except (OSError, SyntaxError) as error:
            self.complain(f"{path.name} is not whole: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), arguments.seed)
        faults = number = 0
        while faults < arguments.faults:
            faults += soak.run(number)
            number += 1
            print(f"{faults} faults in {number} runs, {len(soak.wrong)} wrong", flush=True)
    print(f"faults: {dict(soak.counts)}")
    lost = sorted(soak.lost)
    print(
        f"work lost by {len(lost)} kills: median {lost[len(lost) // 2]:.2f}, most {lost[-1]:.2f} s"
        if lost
        else "no kill came after a checkpoint"
    )
    print(f"wrong: {len(soak.wrong)}")
    return bool(soak.wrong)


if __name__ == "__main__":
    sys.exit(main())
