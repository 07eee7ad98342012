#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Makes the schemas in this folder from those that two wheels ship; README.md names them.

    cut.py CHECK_JSONSCHEMA_FOLDER KUBERNETES_VALIDATE_FOLDER     (the unpacked wheels)

What stays says what is valid. Texts for people go: they are more than half of the bytes.
"""

import json
import pathlib
import re
import sys

# Annotations of JSON Schema and of editors. None of them takes part in validation.
TEXTS = {
    "$comment", "default", "defaultSnippets", "deprecationMessage", "description",
    "enumDescriptions", "examples", "markdownDescription", "markdownEnumDescriptions", "title",
    "tsType",
}
# Below these, keys are names that somebody chose; a property may well be called `description`.
NAMES = {"$defs", "definitions", "dependencies", "patternProperties", "properties"}
# Below these stand values, not schemas.
VALUES = {"const", "enum"}


def cut(schema):
    if isinstance(schema, list):
        return [cut(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {}
    for key, value in schema.items():
        if key in TEXTS or key.startswith("x-"):
            continue
        if key in VALUES:
            rest[key] = value
        elif key in NAMES:
            rest[key] = {name: cut(below) for name, below in value.items()}
        else:
            rest[key] = cut(value)
    return rest


def reachable(definitions, root):
    """The definitions that `root` refers to, itself included."""
    found, todo = set(), [root]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += re.findall(r'"\$ref": "[^"]*/([^"/]+)"', json.dumps(definitions[name]))
    return {name: definitions[name] for name in sorted(found)}


def job(folder):
    definitions = json.loads((folder / "_definitions.json").read_text())["$defs"]
    root = "io.k8s.api.batch.v1.Job"
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": f"#/$defs/{root}",
        "$defs": reachable(definitions, root),
    }


def main():
    here = pathlib.Path(__file__).parent
    vendor = pathlib.Path(sys.argv[1]) / "check_jsonschema/builtin_schemas/vendor"
    kubernetes = pathlib.Path(sys.argv[2]) / "kubernetes_validate/kubernetes-json-schema"
    schemas = {
        "github-workflow": json.loads((vendor / "github-workflows.json").read_text()),
        "gitlab-ci": json.loads((vendor / "gitlab-ci.json").read_text()),
        "kubernetes-job": job(kubernetes / "v1.37.0-local-strict"),
    }
    for name, schema in schemas.items():
        text = json.dumps(cut(schema), indent=1, ensure_ascii=False)
        (here / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
