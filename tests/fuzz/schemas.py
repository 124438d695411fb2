"""The long run over schemas: `python -m tests.fuzz.schemas --count 50000 --seed 1`.

Each schema is processed like a call's `response_format`, or a tool's parameters, up to the point where vLLM compiles
it. An accepted schema is then followed with the grammar backend, as the engine does: the backend must neither panic nor
take memory, and complete text must be valid for the schema.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import re
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import InvalidGeneration
from engine.interface import Control
from engine.prompts.conversation_checks import check_parameters
from engine.prompts.forced_calls import schema_of
from engine.schemas.bounds import bounded
from engine.schemas.checks import usable_schema
from engine.schemas.trial import TOO_COMPLEX, problem_of
from engine.schemas.vetting import SchemaVetting
from sandbox.pool import Sandbox
from tests.fuzz.random_schemas import CHAIN, Json, SchemaSource

CHECK_S = 0.5
VET_S = 20.0
FOLLOW_S = 10.0
MAX_GROWTH_BYTES = 200 << 20
ANSWER_BYTES = 200
LARGE_NUMBER = re.compile(r"\d{16}|e\+")
ENDING = frozenset(b'"}],:0')


@dataclass
class SchemaReport:
    """How many schemas ended in which way, and the broken promises."""

    n_schemas: int = 0
    became: Counter[str] = field(default_factory=Counter)
    slowest_vet_s: float = 0.0
    slowest_follow_s: float = 0.0
    peak_growth_bytes: int = 0
    findings: list[str] = field(default_factory=list)


def fuzz(count: int, seed: int, *, first: int = 0) -> SchemaReport:
    """Tries `count` schemas."""
    report = SchemaReport()
    sandbox = Sandbox()
    vetting = SchemaVetting(sandbox)
    began_bytes = _resident_bytes()
    try:
        for number in range(first, first + count):
            try:
                _play(SchemaSource(seed, number), number, vetting, report)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                report.findings.append(f"schema {number} of seed {seed}: {type(error).__name__}: {str(error)[:300]}")
            report.n_schemas += 1
            report.peak_growth_bytes = max(report.peak_growth_bytes, _resident_bytes() - began_bytes)
    finally:
        sandbox.close()
    if report.peak_growth_bytes > MAX_GROWTH_BYTES:
        report.findings.append(f"the process grew by {report.peak_growth_bytes >> 20} MiB")
    return report


def _play(source: SchemaSource, number: int, vetting: SchemaVetting, report: SchemaReport) -> None:
    try:
        given, schema = _checked(source, number)
    except InvalidGeneration as error:
        _check_text(str(error))
        report.became["refused by a look at it"] += 1
        return
    began_s = time.monotonic()
    try:
        vetting.check(schema, Control())
    except InvalidGeneration as error:
        _check_text(str(error))
        report.became["too complex" if TOO_COMPLEX in str(error) else "refused by the backend"] += 1
        _check_blame(given, schema, str(error))
        return
    finally:
        took_s = time.monotonic() - began_s
        report.slowest_vet_s = max(report.slowest_vet_s, took_s)
        assert took_s < VET_S, f"vetting took {took_s:.1f} s"
    began_s = time.monotonic()
    report.became[_followed(None if source.oddness else given, bounded(schema), number)] += 1
    took_s = time.monotonic() - began_s
    report.slowest_follow_s = max(report.slowest_follow_s, took_s)
    assert took_s < FOLLOW_S, f"following took {took_s:.1f} s"


def _checked(source: SchemaSource, number: int) -> tuple[Json, Json]:
    """The schema of the caller, and the one that the engine follows."""
    began_s = time.process_time()
    if number % 4:
        given = source.schema()
    else:
        tools: list[dict[str, Json]] = [
            {"function": {"name": f"t{i}", "parameters": source.parameters()}} for i in range(number % 3 + 1)
        ]
        for tool in tools:
            check_parameters(tool["function"]["parameters"], "where")
        given = schema_of(tools, "required" if number % 8 else "t0")
    before = copy.deepcopy(given) if number % 10 == 0 else None
    try:
        schema = usable_schema(given)
        bounded(schema)
    finally:
        took_s = time.process_time() - began_s
        assert took_s < CHECK_S, f"looking at it took {took_s:.2f} s"
        assert before in (None, given), "the schema was changed in place"
    return given, schema


def _check_text(text: str) -> None:
    assert "\n" not in text, text
    assert len(text) < 600, text
    assert "Traceback" not in text, text
    assert ".rs:" not in text, text


def _check_blame(given: Json, schema: Json, text: str) -> None:
    """What the backend refuses, it refuses as the caller wrote it too: nothing that was added is to blame.

    But for its limits, and for what it does not look at beside a choice of any value.
    """
    if any(limit in text for limit in ("too large", TOO_COMPLEX, "oneOf", "invalid multiple of")):
        return
    assert problem_of(json.dumps(given)) is not None, (
        f"only refused as changed here: {text}: {json.dumps(given)[:1000]}"
    )


def _followed(given: Json | None, schema: Json, number: int) -> str:
    """What comes of a made-up answer, written byte by byte as the grammar allows; it has to fit what was given."""
    from llguidance import LLMatcher, LLTokenizer

    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults={"whitespace_flexible": False})
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0)
    rng = random.Random(number)
    written = bytearray()
    while not matcher.is_stopped() and len(written) < ANSWER_BYTES:
        mask = matcher.compute_bitmask()
        allowed = [token for token in range(8 * len(mask)) if mask[token // 8] >> token % 8 & 1]
        ending = [token for token in allowed if token in ENDING or token > 255]
        token = rng.choice(ending if ending and rng.random() < 0.7 else allowed or [0])
        matcher.consume_token(token)
        if token < 256:
            written.append(token)
    if matcher.is_error():
        return "broke off"
    if not matcher.is_stopped():
        return "taken, answer cut off"
    if given is not None:
        _check_answer(given, written.decode())
    return "taken, answer complete"


def _check_answer(given: Json, text: str) -> None:
    import jsonschema
    from jsonschema.validators import Draft202012Validator

    value = json.loads(text)
    text_given = json.dumps(given)
    if {"$id", "id", "$schema", "$anchor", CHAIN} & set(text_given.split('"')) or LARGE_NUMBER.search(text_given):
        # The two libraries do not agree on bases, this one follows a chain that branches to each of its ends, and the
        # other one has numbers of 64 bits.
        return
    try:
        error = next(Draft202012Validator(given).iter_errors(value), None)
    except (RecursionError, TypeError, ValueError, AttributeError, OverflowError):
        return  # a schema that the reference does not understand
    except Exception as failure:
        if "Unresolvable" in type(failure).__name__ or isinstance(failure, jsonschema.SchemaError):
            return
        raise
    assert error is None, (
        f"{text[:200]} does not fit: {error.message[:200] if error else ''}: {json.dumps(given)[:1000]}"
    )


def _resident_bytes() -> int:
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def main() -> int:
    """Tries the schemas and prints the result; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.schemas", description="Fuzzes the vetting of schemas.")
    parser.add_argument("--count", type=int, default=50_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="where chance begins (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the number of the first one (default: %(default)s)")
    options = parser.parse_args()
    began_s = time.monotonic()
    report = fuzz(options.count, options.seed, first=options.first)
    for what, n in report.became.most_common():
        print(f"{n:8,} {what}")
    print(
        f"{report.n_schemas:,} schemas in {time.monotonic() - began_s:.0f} s; slowest vetting "
        f"{report.slowest_vet_s:.2f} s, slowest answer {report.slowest_follow_s:.2f} s; memory grew by "
        f"{report.peak_growth_bytes / (1 << 20):.0f} MiB; {len(report.findings)} findings"
    )
    for finding in report.findings[:20]:
        print(finding)
    return int(bool(report.findings))


if __name__ == "__main__":
    sys.exit(main())
