"""Where the process of a command begins: an interrupt is quiet before anything has begun.

Loading the command line takes a second in which nothing is done that could be lost. An interrupt
there ends the process at once, as a shell knows it (130), instead of in a traceback of some
package that was being imported. From `app.main` on it becomes an exception, and one message.
"""

from __future__ import annotations

import signal
from typing import NoReturn

from dfqonnx.cli.thread_waiting import ProcessorTimes


def main() -> NoReturn:
    """Load the command line, run it and exit.

    Who started the process may have it ignore interrupts, as `nohup` does; then it still does.
    """
    begun = ProcessorTimes.read()
    raises = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if raises:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from dfqonnx.cli.app import main as run

    if raises:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run(begun=begun)
