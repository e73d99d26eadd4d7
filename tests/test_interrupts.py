"""An interrupt that falls where Python ignores exceptions still stops the command."""

import signal
import subprocess
import sys

_PROGRAM = """
import signal
from flows.interrupts import keep_interrupts

class Careless:
    def __del__(self):
        print("in a __del__", flush=True)
        signal.pause()


keep_interrupts()
Careless()
signal.pause()
"""


def test_an_interrupt_inside_a_del_is_not_lost() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "in a __del__\n"
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT, errors
    assert "ignored" not in errors


def test_any_other_ignored_error_is_still_shown() -> None:
    program = _PROGRAM.replace("signal.pause()\n\n", "raise ValueError('seen')\n\n").replace("\nsignal.pause()", "")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "ValueError: seen" in done.stderr
