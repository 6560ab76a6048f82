"""One paper figure a file: `figure(records..., sheet=)` draws, `make(run, choice, sheet)` reads a run's; no torch."""
