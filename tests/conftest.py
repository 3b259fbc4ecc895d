"""What holds for the whole suite."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile(
    "parley", deadline=None
)  # how long an example takes says more about the machine than about us
settings.load_profile("parley")

# Who runs the suite under nohup, or in the background of a script, has these ignored, and with it every process that a
# test starts: such a one would not end at Ctrl-C, nor when its window is closed.
for _number, _usual in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _usual)
