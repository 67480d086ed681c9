"""Routing on things that fail: the parts of `tests/benchmarks/faults.py`.

`servers` fail on purpose, `clients` ask them, `storms` do so by the thousand, `overhead` times the
router itself, `drifting` has endpoints change, `processes` kills workers and Redis,
`beside_litellm` compares, `steering` tries to talk a judge over, `fuzzing` feeds in whatever
there is.
"""
