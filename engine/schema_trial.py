"""A schema compiled and tried out with the grammar backend: the one module that hands it what a caller wrote.

A few hundred bytes can make the backend panic, take gigabytes or run for minutes, so `problem_of` runs in a child whose
memory and time are bounded.
"""

from __future__ import annotations

import random
import time

from sandbox.memory import allowance

MAX_COMPILE_S = 2.0
"""Of processor time: vLLM compiles again in the server, beside all other calls."""
REHEARSALS = 4
REHEARSED_BYTES = 128
REHEARSAL_S = 2.0
# A quarter of what the engine allows itself: its vocabulary is larger than the 256 bytes tried here.
_LIMITS = {"initial_lexer_fuel": 250_000, "step_lexer_fuel": 50_000, "step_max_items": 12_500}
_ENDING = frozenset(b'"}],:')
TOO_COMPLEX = (
    "it is too complex to be followed, or nothing can satisfy it. "
    "Fewer optional properties, shorter patterns and smaller counts help"
)


def problem_of(schema: str) -> str | None:
    """What the grammar backend has against a schema's JSON text, `None` for nothing.

    Raises: `ImportError` where the backend is not installed.
    """
    allowance.load("llguidance")
    from llguidance import LLMatcher

    began_s = time.process_time()
    try:
        grammar = LLMatcher.grammar_from_json_schema(schema, overrides={"whitespace_flexible": False})
        if problem := LLMatcher.validate_grammar(grammar, None):
            return _sentence(problem)
        if time.process_time() - began_s > MAX_COMPILE_S:
            return TOO_COMPLEX
        return _rehearsed(grammar)
    except ValueError as error:  # a number or a character that JSON Schemas cannot have
        return _sentence(str(error))
    except MemoryError:
        return TOO_COMPLEX
    except BaseException as error:  # a panic of the Rust library is none of Python's own errors
        if isinstance(error, Exception):
            raise
        return TOO_COMPLEX


def _rehearsed(grammar: str) -> str | None:
    """What goes wrong while made-up answers are followed byte by byte: a compiled grammar can still have no way on."""
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

    until_s = time.process_time() + REHEARSAL_S
    picked = random.Random(0)
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0, limits=LLParserLimits(**_LIMITS))
    for _ in range(REHEARSALS):
        for _ in range(REHEARSED_BYTES):
            if matcher.is_stopped():
                break
            if time.process_time() > until_s:
                return TOO_COMPLEX
            mask = matcher.compute_bitmask()
            allowed = [token for token in range(8 * len(mask)) if mask[token // 8] >> token % 8 & 1]
            ending = [token for token in allowed if token in _ENDING]  # else it stays in the first string
            matcher.consume_token(picked.choice(ending if ending and picked.random() < 0.5 else allowed or [0]))
        if matcher.is_error():
            return TOO_COMPLEX
        matcher.reset()
    return None


def _sentence(error: str) -> str:
    """The reason in one line: no backtrace, and no advice that a caller cannot follow."""
    reason = " ".join(error.partition("\n<")[0].split())
    if "coerce_one_of" in reason:
        return "oneOf with choices that overlap is not supported; use anyOf"
    if reason.lower().startswith(("panic", "unable to determine")):
        return TOO_COMPLEX
    reason = reason.replace("Unimplemented keys", "keywords that are not supported").rstrip(".")
    return reason[:1].lower() + reason[1:300]
