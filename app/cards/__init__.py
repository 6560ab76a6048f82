"""Cards that pages show: what each says of a run, with its plot, caption and table."""
