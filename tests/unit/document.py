# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.json, and what it says against what the API asks for and answers."""

import json
import re
from pathlib import Path

DOCUMENT = json.loads((Path(__file__).resolve().parents[2] / "docs" / "openapi.json").read_text())
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float)}
# What a schema says of a size: the word, what is measured, whether it is at least.
SIZES = (("minimum", None, True), ("maximum", None, False), ("minLength", len, True), ("maxLength", len, False),
         ("minItems", len, True), ("maxItems", len, False), ("minProperties", len, True), ("maxProperties", len, False))


def resolve(schema: dict) -> dict:
    while "$ref" in schema:
        found = DOCUMENT
        for step in schema["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def faults(schema: dict, value, where: str = "body") -> list[str]:
    """What of VALUE is not as SCHEMA has it."""
    schema = resolve(schema)
    if value is None and schema.get("nullable"):
        return []
    found = [fault for part in schema.get("allOf", []) for fault in faults(part, value, where)]
    for word in ("oneOf", "anyOf"):
        tried = [faults(choice, value, where) for choice in schema.get(word, [])]
        if tried and [] not in tried:
            found += tried[0]
        if word == "oneOf" and tried.count([]) > 1:
            found.append(f"{where}: is {tried.count([])} of what it may be one of")
    kind = TYPES.get(schema.get("type"))
    if kind and (not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)):
        return [*found, f"{where}: {value!r} is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{where}: {value!r} is not as {schema['pattern']}")
    for word, measure, least in SIZES:
        if word in schema:
            size = measure(value) if measure else value
            if size < schema[word] if least else size > schema[word]:
                found.append(f"{where}: {size} is not within {word} {schema[word]}")
    if isinstance(value, list) and "items" in schema:
        for number, item in enumerate(value):
            found += faults(schema["items"], item, f"{where}[{number}]")
    if isinstance(value, dict):
        known = schema.get("properties", {})
        found += [f"{where}: has no {name}" for name in schema.get("required", []) if name not in value]
        for name, item in value.items():
            more = known.get(name, schema.get("additionalProperties", True))
            if more is False:
                found.append(f"{where}: {name} is not in the document")
            elif isinstance(more, dict):
                found += faults(more, item, f"{where}.{name}")
    return found


def operations() -> list[tuple[str, str]]:
    """Method and path of each."""
    return [(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item if method != "parameters"]


def described(method: str, path: str) -> str | None:
    """The path, as the document writes it, of what it has for METHOD of PATH. The most exact goes first."""
    path = path.rstrip("/") or "/"
    for pattern, item in sorted(DOCUMENT["paths"].items(), key=lambda pair: pair[0].count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), path) and method.lower() in item:
            return pattern
    return None


def asked_schema(method: str, pattern: str) -> dict | None:
    """What the body of a request is to be; None: it has none."""
    body = DOCUMENT["paths"][pattern][method.lower()].get("requestBody")
    return body and body["content"]["application/json"]["schema"]


def check_answer(method: str, path: str, status: int, kind: str, body: str):
    pattern = described(method, path)
    if not pattern:
        assert status == 400, f"docs/openapi.json has no {method} {path}, which was answered by {status}"
        found = faults({"$ref": "#/components/schemas/Error"}, json.loads(body))
        assert not found, f"{method} {path}: {found}"
        return
    answers = DOCUMENT["paths"][pattern][method.lower()]["responses"]
    answer = answers.get(str(status)) or answers.get("default")
    assert answer, f"{method} {path}: the document has no status {status}: {body}"
    content = resolve(answer).get("content", {})
    if not content:
        assert not body, f"{method} {path}: the document has no body for {status}: {body}"
        return
    kind = kind.split(";")[0]
    assert kind in content, f"{method} {path}: answered with {kind}"
    if kind == "application/json":
        found = faults(content[kind].get("schema", {}), json.loads(body))
        assert not found, f"{method} {path}: {found}"


def check_asked(method: str, path: str, status: int, asked: str, body: str):
    """What was taken is as the document has it, and what that has was not refused for its shape."""
    pattern = described(method, path)
    schema = pattern and asked_schema(method, pattern)
    if not asked or not pattern:
        return
    assert schema is not None or status >= 400, f"{method} {path}: the document has no body for it"
    if status < 300:
        found = faults(schema, json.loads(asked))
        assert not found, f"{method} {path} took {asked}: {found}"
    elif schema and "deserializing the json body" in body:
        try:
            value = json.loads(asked)
        except (ValueError, RecursionError):
            return
        assert faults(schema, value), f"{method} {path} refused {asked}, which is as the document has it: {body}"
