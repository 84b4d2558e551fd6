"""Ctrl-C at any moment of a call, in the main thread."""

import signal
import sys
import threading


class Interrupted(BaseException):
    """What the signal raises, and nothing else."""


def interrupted(call, times):
    """Yield `times` times, each time after `call`, made over and over, was interrupted somewhere."""

    def interrupt(*_):
        raise Interrupted

    def interrupt_main(begun):
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before, interval = signal.signal(signal.SIGUSR1, interrupt), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(times):
            begun = threading.Event()
            interrupter = threading.Thread(target=interrupt_main, args=(begun,))
            interrupter.start()
            try:
                while True:
                    begun.set()
                    call()
            except Interrupted:
                pass
            except RuntimeError as e:  # of `with lock`: interrupted when Condition.wait had released it
                if not isinstance(e.__context__, Interrupted):
                    raise
            interrupter.join()
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)
        sys.setswitchinterval(interval)
