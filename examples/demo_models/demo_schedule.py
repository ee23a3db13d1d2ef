"""Learning-rate schedule of the demo model trainings: warm-up, flat, then linear decay to zero."""

import signal


class Schedule:
    """Iterate over steps; factor() is the learning-rate factor of the current step.

    SIGUSR1 starts the final decay at once (when the machine turns out to be slow).  The log line then names the
    --steps value that gives the same run again.
    """

    def __init__(self, steps, warmup, decay):
        self.end, self.warmup, self.decay, self.step = steps, warmup, max(1, min(decay, steps)), 0
        signal.signal(signal.SIGUSR1, self.finish)

    def finish(self, *_):
        self.end = min(self.end, self.step + 1 + self.decay)
        print(f"final decay starts; same as --steps {self.end}", flush=True)

    def __iter__(self):
        while self.step < self.end:
            yield self.step
            self.step += 1

    def factor(self):
        return min(1.0, (self.step + 1) / self.warmup, (self.end - self.step) / self.decay)
