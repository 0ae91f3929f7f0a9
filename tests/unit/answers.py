#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds what the unit tests of the API were answered, and the tables that they wrote down, against
docs/openapi.json:

  tests/unit/answers.py FOLDER       what they wrote with DUET_ANSWERS=FOLDER (answer_log.h)

Each answer and each body that was taken is as the document has it; each operation of the document was
asked for, and was answered by each status that it has below 300; routes, members of bodies and
fields of a configuration are those of the document, both ways."""

import json
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))

from document import (DOCUMENT, asked_schema, check_answer, check_asked, described, operations,  # noqa: E402
                      resolve)

# Routes that say no more than that there is no such operation.
NOWHERE = {("GET", "balloon/{}"), ("PUT", "snapshot/{}"), ("PUT", "snapshot")}
KINDS = {"number": "integer", "switch": "boolean", "word": "string", "text": "string", "struct": "object"}


def answers(lines: list[dict]) -> list[str]:
    found = []
    seen: dict[tuple[str, str], set[int]] = {}
    for line in lines:
        method, path, status = line["method"], line["path"], line["status"]
        try:
            check_answer(method, path, status, line.get("type") or "", line.get("body") or "")
            check_asked(method, path, status, line["asked"], line.get("body") or "")
        except AssertionError as fault:
            found.append(str(fault))
        seen.setdefault((method, described(method, path) or ""), set()).add(status)
    for method, path in operations():
        has = {int(status) for status in DOCUMENT["paths"][path][method.lower()]["responses"] if int(status) < 300}
        if missing := (has or {400}) - seen.get((method, path), set()):
            found.append(f"{method} {path}: no unit test of the API was answered by {missing}")
    return found


def route_of(routes: list[dict], method: str, path: str) -> dict | None:
    """Which one the API takes: the first whose tokens fit (src/api/api.c)."""
    tokens = path.strip("/").split("/") if path != "/" else []
    for route in routes:
        pattern = route["pattern"].split("/") if route["pattern"] else []
        if route["method"] == method and len(tokens) >= len(pattern) and (
                len(tokens) == len(pattern) or not route["exact"]) and all(
                    want in ("{}", token) for want, token in zip(pattern, tokens)):
            return route
    return None


def members(where: str, body: dict, schema: dict) -> list[str]:
    schema = resolve(schema)
    properties, known = schema.get("properties", {}), body["members"]
    found = []
    if (schema.get("additionalProperties") is True) != body["open"]:
        found.append(f"{where}: whether there may be others is not as the document has it")
    if properties.keys() != known.keys():
        found.append(f"{where}: members are {sorted(known)}, in the document {sorted(properties)}")
    needed = {name for name, member in known.items() if member["needed"]}
    if not needed <= set(schema.get("required", [])):
        found.append(f"{where}: needed are {sorted(needed)}, in the document {schema.get('required')}")
    for name in properties.keys() & known.keys():
        found += member(f"{where}.{name}", known[name], resolve(properties[name]), name in schema.get("required", []))
    return found


def member(where: str, known: dict, schema: dict, needed: bool) -> list[str]:
    found = []
    kind = KINDS.get(known["kind"])
    if kind and schema.get("type") != kind:
        found.append(f"{where}: is of type {kind}, in the document {schema.get('type')}")
    if known.get("words") and not set(schema.get("enum", [])) <= set(known["words"]):
        found.append(f"{where}: may be {known['words']}, in the document {schema.get('enum')}")
    if known["kind"] == "number" and known["most"] < schema.get("maximum", 0):
        found.append(f"{where}: is at most {known['most']}, in the document {schema['maximum']}")
    if not needed and schema.get("type") and not schema.get("nullable"):
        found.append(f"{where}: may be null, which is the same as left out, and not so in the document")
    if known.get("body"):
        found += members(where, known["body"], schema)
    return found


def routes(known: list[dict]) -> list[str]:
    found, used = [], []
    for method, path in operations():
        route = route_of(known, method, re.sub(r"\{\w+\}", "x", path))
        schema = asked_schema(method, path)
        if not route:
            found.append(f"{method} {path}: the API has no route for it")
            continue
        used.append(route)
        if (route["method"], route["pattern"]) in NOWHERE:
            found.append(f"{method} {path}: the API's route for it says that there is none")
        if takes := route.get("takes"):
            found += members(f"{method} {path}", takes, schema) if schema else [f"{method} {path}: takes a body"]
    for route in known:
        if route not in used and (route["method"], route["pattern"]) not in NOWHERE:
            found.append(f"{route['method']} {route['pattern']}: is not in the document")
    return found


def field(where: str, known: dict, schema: dict) -> list[str]:
    found = []
    schema = resolve(schema)
    types = {"rules": "array", "limit": None, "size": None}
    kind = types.get(known["kind"], KINDS.get(known["kind"]))
    if kind and schema.get("type") != kind:
        found.append(f"{where}: is of type {kind}, in the document {schema.get('type')}")
    if known["kind"] == "word" and set(known["words"]) != set(schema.get("enum", [])):
        found.append(f"{where}: may be {known['words']}, in the document {schema.get('enum')}")
    if known["kind"] == "number" and (known["least"], known["most"]) != (schema.get("minimum"), schema.get("maximum")):
        found.append(f"{where}: is {known['least']} to {known['most']}, in the document "
                     f"{schema.get('minimum')} to {schema.get('maximum')}")
    return found


def fields(known: list[dict]) -> list[str]:
    """Those of the machine's configuration, and of each type of device: in the table, and in the document."""
    schemas = DOCUMENT["components"]["schemas"]
    # What GET gives and PATCH takes.
    places = [("machine", "DuetConfig", {"duet", "devices"}, set())]
    for of in {one["of"] for one in known} - {"machine"}:
        name = of.capitalize()
        places.append((of, f"{name}Config", {"type"}, set()))
        if f"{name}Fields" in schemas:
            places.append((of, f"{name}Fields", set(), {"id"}))
    found = []
    for of, schema, more, less in places:
        table = {one["name"]: one for one in known if one["of"] == of and one["name"] not in less}
        properties = schemas.get(schema, {}).get("properties", {})
        if properties.keys() - more != table.keys():
            found.append(f"{schema}: differs from the fields of a {of} in {sorted((properties.keys() - more) ^ table.keys())}")
        for name in properties.keys() & table.keys():
            found += field(f"{schema}.{name}", table[name], properties[name])
    return found


def main() -> int:
    files = sorted(Path(sys.argv[1]).glob("*.jsonl")) if len(sys.argv) == 2 else []
    lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    kinds = {"status": answers, "route": routes, "field": fields}
    found, counts = [], []
    for kind, check in kinds.items():
        of = [line if kind == "status" else line[kind] for line in lines if kind in line]
        counts.append(f"{len(of)} {kind}")
        found += check(of) if of else [f"there is no line of a {kind}; give a folder that the unit tests have written to"]
    for fault in found:
        print(fault)
    print(f"answers: {len(found)} faults" if found else f"answers: ok ({', '.join(counts)} lines)")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
