"""The processes in which PyTorch compiles kernels, kept out of the reach of signals that are meant for the trainer."""

import logging
import signal

log = logging.getLogger(__name__)

_NOT_THEIRS = (signal.SIGINT, signal.SIGTERM)


def start_compile_workers() -> None:
    """Start PyTorch's compiling processes now, deaf to SIGINT and SIGTERM.

    Schedulers, `torchrun` and terminals send these signals to every process of a job. The trainer finishes its step
    first, which may need kernels; PyTorch waits without end for those of a compiling process that has died. Deaf ones
    end with their parent all the same: it tells them when it exits, and they look whether it is still there.
    """
    # A new process inherits the mask of its parent; a signal that comes meanwhile reaches the trainer afterwards.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NOT_THEIRS)
    try:
        # PyTorch has no public name for it: without this one, the processes start later, as they are.
        from torch._inductor.async_compile import AsyncCompile

        AsyncCompile.warm_pool()
    except (ImportError, AttributeError) as error:
        log.info("the compiling processes of this PyTorch cannot be started early: %s", error)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
