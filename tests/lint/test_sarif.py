"""The SARIF log holds to what the standard (OASIS SARIF 2.1.0) asks of it, and to the findings."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dfqonnx.lint.lint import lint_file
from dfqonnx.lint.rule import RULES
from dfqonnx.lint.sarif import SCHEMA, describe_findings, say_finding
from tests.lint.bad_files import BAD_FILES
from tests.lint.qdq_nets import QdqNet

URI = r"^([A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})+$"  # RFC 3986
MESSAGE = {"type": "object", "required": ["text"], "properties": {"text": {"minLength": 1}}}
LEVEL = {"enum": ["none", "note", "warning", "error"]}
ARTIFACT = {
    "type": "object",
    "required": ["uri"],
    "properties": {"uri": {"type": "string", "pattern": URI}},
}
RULE = {
    "type": "object",
    "required": ["id", "shortDescription", "fullDescription", "help", "defaultConfiguration"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": MESSAGE,
        "helpUri": {"type": "string", "pattern": "^https://"},
        "defaultConfiguration": {"properties": {"level": LEVEL}},
        "properties": {"properties": {"tags": {"uniqueItems": True}}},
    },
    "additionalProperties": False,
}
LOCATION = {
    "type": "object",
    "required": ["physicalLocation"],
    "properties": {
        "physicalLocation": {
            "required": ["artifactLocation"],
            "properties": {
                "artifactLocation": ARTIFACT,
                "region": {"properties": {"startLine": {"type": "integer", "minimum": 1}}},
            },
        },
        "logicalLocations": {
            "type": "array",
            "items": {
                "properties": {
                    "fullyQualifiedName": {"type": "string"},
                    "kind": {"type": "string"},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}
RESULT = {
    "type": "object",
    "required": ["message", "ruleId", "level", "locations"],
    "properties": {
        "ruleId": {"type": "string"},
        "ruleIndex": {"type": "integer", "minimum": 0},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": {"type": "array", "items": LOCATION},
        "partialFingerprints": {"additionalProperties": {"type": "string"}},
        "properties": {"type": "object"},
    },
    "additionalProperties": False,
}
LOG = {  # the parts of the standard's schema that this log uses, and nothing beside them
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "$schema": {"const": SCHEMA},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "required": ["tool"],
                "properties": {
                    "tool": {
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "required": ["name"],
                                "properties": {
                                    "name": {"type": "string"},
                                    "semanticVersion": {"pattern": r"^\d+\.\d+\.\d+"},
                                    "rules": {"type": "array", "items": RULE},
                                },
                                "additionalProperties": False,
                            }
                        },
                        "additionalProperties": False,
                    },
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "results": {"type": "array", "items": RESULT},
                },
                "additionalProperties": False,
            },
        },
    },
    "additionalProperties": False,
}


def log_of(folder: Path, names: list[str]) -> dict[str, Any]:
    results = []
    for index, name in enumerate(names):
        place = folder / str(index)
        place.mkdir()
        results.append(lint_file(BAD_FILES[name].build(place), BAD_FILES[name].target))
    log = json.loads(json.dumps(describe_findings(results, root=folder)))
    assert isinstance(log, dict)
    return log


def test_a_log_of_every_bad_file_holds_to_the_standard(tmp_path: Path) -> None:
    log = log_of(tmp_path, list(BAD_FILES))
    jsonschema.validate(log, LOG)
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    assert len({rule["name"] for rule in rules}) == len(rules)
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    assert {result["ruleId"] for result in run["results"]} == set(RULES)
    prints = [result["partialFingerprints"]["ruleOfFile/v1"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    assert len({result["ruleId"] for result in run["results"]}) >= 15


def test_a_schema_that_always_agrees_would_be_no_test(tmp_path: Path) -> None:
    log = log_of(tmp_path, ["scale_of_zero"])
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError, match="fatal"):
        jsonschema.validate(log, LOG)


def test_files_below_the_root_are_relative_and_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "with space #1"
    folder.mkdir()
    result = lint_file(BAD_FILES["scale_of_zero"].build(folder))
    for root, uri in ((tmp_path, "with%20space%20%231/bad.onnx"), (tmp_path / "else", None)):
        log = describe_findings([result], root=root)
        place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
        assert place["uri"] == uri or (uri is None and place["uri"].startswith("file:///"))
        assert ("uriBaseId" in place) is (uri is not None)
        assert re.match(URI, place["uri"])


def test_names_of_strangers_are_made_safe(tmp_path: Path) -> None:
    net = QdqNet()
    evil = "a\n::error::b\x1b[31m\u202e"
    y = net.conv(net.quantize("x"), name=evil)
    result = lint_file(net.save(tmp_path / "net.onnx", y))
    (finding,) = result.findings
    assert [place.node for place in finding.places] == [evil]
    log = describe_findings([result], root=tmp_path)
    (entry,) = log["runs"][0]["results"]
    name = entry["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]
    for shown in (say_finding(finding), entry["message"]["text"], name):
        assert shown.isprintable()
        assert "::" not in shown
