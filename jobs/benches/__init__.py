"""Benchmarks, one file each: `add_arguments(parser)` and `measure(args) -> Iterator[Table]`.

A benchmark yields its tables one by one; their rows may be a generator, which is printed while it works. The first
line of the docstring is its help. What is heavy is imported inside `measure`. `landscape bench NAME` finds the file,
prints the tables and writes them into a Markdown file where asked.
"""
