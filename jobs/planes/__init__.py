"""Planes of `landscape surface --plane`: a file a kind.

Each has `plane(request, variant)`, which makes the plane from what the run has stored, and may have
`add_arguments(parser)` for options of its own, `READS`, the shared options that it reads, and `variant(args)`, the part
of the record's name that tells its planes apart ('' for the plain one).
"""
