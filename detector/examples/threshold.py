#!/usr/bin/env python3
"""The smallest useful detector: blames the service whose callers' requests fail most (protocol: ../PROTOCOL.md)."""
import json
import sys
from collections import Counter, deque

FAILURES_MIN = 10  # failed requests and connections in one second, below which nothing is said
service_of, last_second, blamed = {}, deque(maxlen=5), None  # a frame is made five times a second


def say(**line):
    print(json.dumps(line), flush=True)


def failures(side):
    sockets = sum(count for _, count in side["connectsFailed"] + side["errors"])
    return sockets + sum(l7["errors"] for l7 in side["l7"])


for line in map(json.loads, sys.stdin):
    if line["type"] == "pod":
        service_of[line["name"]] = line.get("service")
    elif line["type"] == "service":
        service_of[line["name"]] = service_of.get(*line["endpoints"][:1]) if line["endpoints"] else None
    elif line["type"] == "ready":
        say(type="ready", version=1, detector="threshold 1.0", frames=True)
    elif line["type"] == "sync":
        say(type="synced", id=line["id"])
    elif line["type"] == "frame":
        edges = [(service_of.get(*edge["callee"].values()), edge["client"]) for edge in line["edges"] if edge["client"]]
        last_second.append(Counter())
        for service, side in edges:
            last_second[-1][service] += failures(side) if service else 0
        worst, count = max(sum(last_second, Counter()).items(), key=lambda one: one[1], default=(None, 0))
        if (now := worst if count >= FAILURES_MIN else None) != blamed:
            blamed, entity = now, {"kind": "service", "name": now}
            named = {"entity": entity, "mechanism": "unknown", "confidence": 0.5, "sinceNs": line["atNs"]}
            say(type="diagnosis", atNs=line["atNs"], detector="threshold", candidates=[named] if now else [])
