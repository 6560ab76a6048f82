"""One kind of film a file: `Film(scene, times, width=, height=, dark=)` and `times(scene, frames, pace)`; no torch."""
