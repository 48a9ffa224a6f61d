"""Compute Engine on this machine: a small state behind Google's own description of its API.

There is no emulator of managed instance groups. google-api-python-client ships Google's discovery document: by it each
request is held against route, query and body (unknown fields, types, enums, patterns, what only the server may set),
and each of our answers against its schema.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from werkzeug.wrappers import Request, Response

Json = dict[str, Any]
EXHAUSTED = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
LACK = "The zone 'projects/lab/zones/us-central1-a' does not have enough resources available to fulfill the request."
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "number": (int, float),
    "object": dict,
    "array": list,
}


class RefusedError(Exception):
    """An answer that is an error: HTTP status, Google's reason, words."""


@cache
def document() -> Json:
    """Return Google's discovery document of the API."""
    folder = resources.files("googleapiclient.discovery_cache") / "documents"
    return json.loads((folder / "compute.v1.json").read_text())


@cache
def routes() -> list[tuple[str, str, re.Pattern[str], Json]]:
    """Return the methods that groups need, each with its verb and the pattern of its path."""
    found: list[tuple[str, str, re.Pattern[str], Json]] = []
    for resource in ("instanceGroupManagers", "instanceGroupManagerResizeRequests", "instances", "zoneOperations"):
        for name, method in document()["resources"][resource]["methods"].items():
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", method["path"])
            found.append((f"{resource}.{name}", method["httpMethod"], re.compile(f"/compute/v1/{pattern}"), method))
    return found


def hold(value: Any, schema: Json, where: str, *, sent: bool) -> None:
    """Refuse a value that its schema does not allow; of what is sent, also what only the server may set."""
    if "$ref" in schema:
        return hold(value, document()["schemas"][schema["$ref"]], where, sent=sent)
    if sent and schema.get("readOnly"):
        raise RefusedError(400, "invalid", f"{where} is output only")
    kind = TYPES[schema["type"]] if schema["type"] != "any" else object
    if not isinstance(value, kind) or (isinstance(value, bool) and schema["type"] != "boolean"):
        raise RefusedError(400, "invalid", f"{where}: {value!r} is no {schema['type']}")
    if "enum" in schema and value not in schema["enum"]:
        raise RefusedError(400, "invalid", f"{where}: {value!r} is none of {schema['enum']}")
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        raise RefusedError(400, "invalid", f"{where}: {value!r} does not match {schema['pattern']}")
    for index, item in enumerate(value if isinstance(value, list) else ()):
        hold(item, schema["items"], f"{where}[{index}]", sent=sent)
    for name, item in value.items() if isinstance(value, dict) else ():
        known = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
        if known is None:
            raise RefusedError(400, "invalid", f"{where}.{name}: no such field")
        hold(item, known, f"{where}.{name}", sent=sent)
    return None


@dataclass
class GceServer:
    """The groups of one zone; `stock` machines can still be bought, each is created for `boot` reads of its group.

    While it `lags`, its list of resize requests does not have the newest. A resize ends with the code `failing`.
    """

    stock: int = 1000
    lags: bool = False
    failing: str = ""
    boot: int = 0
    denied: set[str] = field(default_factory=set[str])
    calls: list[str] = field(default_factory=list[str])
    launched: int = 0
    groups: dict[str, Json] = field(default_factory=dict[str, Json])
    machines: dict[str, Json] = field(default_factory=dict[str, Json])
    requests: dict[str, dict[str, Json]] = field(default_factory=dict[str, dict[str, Json]])
    operations: dict[str, Json] = field(default_factory=dict[str, Json])
    answered: dict[str, Json] = field(default_factory=dict[str, Json])
    lock: threading.RLock = field(default_factory=threading.RLock)
    address: str = ""

    def reset(self) -> None:
        """Forget everything."""
        self.__dict__.update(GceServer(address=self.address).__dict__)

    def writes(self) -> list[str]:
        """Return the calls that change something."""
        return [call for call in self.calls if not re.search(r"\.(get|list\w*|wait)$", call)]

    def add(self, name: str, machines: int, **more: Any) -> None:
        """Make a group of so many running machines."""
        self.groups[name] = {"name": name, "targetSize": machines, "status": {"isStable": True}, **more}
        self.requests[name] = {}
        self._fill(name)
        for machine in self.machines.values():
            machine["left"] = 0
        self.launched = 0

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer one call."""
        request = Request(environ)
        with self.lock:
            try:
                answer, status = self._answer(request), 200
            except RefusedError as error:
                status, reason, words = error.args
                told = [{"message": words, "domain": "global", "reason": reason}]
                answer = {"error": {"code": status, "message": words, "errors": told}}
        return Response(json.dumps(answer), status, content_type="application/json")(environ, start)

    def _answer(self, request: Request) -> Json:
        for name, verb, pattern, method in routes():
            if verb == request.method and (found := pattern.fullmatch(request.path)):
                self.calls.append(name)
                if name in self.denied:
                    words = f"Required 'compute.{name}' permission for 'projects/lab'"
                    raise RefusedError(403, "forbidden", words)
                query = {key: value for key, value in request.args.items() if key != "$alt"}
                for key, value in query.items():
                    self._hold_query(key, value, method["parameters"])
                body = json.loads(request.data) if request.data else {}
                if "request" in method:
                    hold(body, method["request"], "body", sent=True)
                elif body:
                    raise RefusedError(400, "invalid", "this method takes no body")
                answer = self._once(name, found.groupdict(), query, body)
                hold(answer, method["response"], "answer", sent=False)
                return answer
        raise RefusedError(404, "notFound", f"{request.method} {request.path} is no method")

    def _hold_query(self, key: str, value: str, known: Json) -> None:
        if key not in known or known[key]["location"] != "query":
            raise RefusedError(400, "invalid", f"{key} is no parameter of this method")
        kind = known[key]["type"]
        if (kind == "integer" and not value.isdigit()) or (kind == "boolean" and value not in ("true", "false")):
            raise RefusedError(400, "invalid", f"{key}: {value!r} is no {kind}")

    def _once(self, name: str, path: Json, query: Json, body: Json) -> Json:
        """Do what the method does; a request id that was answered before gets the same answer."""
        again = query.get("requestId", "")
        if again and again in self.answered:
            return self.answered[again]
        method: Callable[[Json, Json, Json], Json] = getattr(self, f"_{name.replace('.', '_')}")
        answer = method(path, query, body)
        if again:
            self.answered[again] = answer
        return answer

    def _operation(self, errors: tuple[Json, ...] = (), status: int = 503) -> Json:
        """Return an operation that is still running; a wait shows its end."""
        name = f"operation-{len(self.operations)}"
        ended: Json = {"name": name, "status": "DONE"}
        if errors:
            ended |= {"error": {"errors": list(errors)}, "httpErrorStatusCode": status}
        self.operations[name] = ended
        return {"name": name, "status": "RUNNING"}

    def _zoneOperations_wait(self, path: Json, query: Json, body: Json) -> Json:
        return self.operations[path["operation"]]

    def _group(self, path: Json) -> Json:
        if path["instanceGroupManager"] not in self.groups:
            words = f"The resource 'instanceGroupManagers/{path['instanceGroupManager']}' was not found"
            raise RefusedError(404, "notFound", words)
        return self.groups[path["instanceGroupManager"]]

    def of(self, group: str) -> dict[str, Json]:
        """Return the machines of a group."""
        return {name: machine for name, machine in self.machines.items() if machine["group"] == group}

    def _fill(self, group: str) -> None:
        """Create what the group lacks, as far as the stock goes."""
        staying = [machine for machine in self.of(group).values() if machine["action"] != "DELETING"]
        for _ in range(self.groups[group]["targetSize"] - len(staying)):
            name = f"{group}-{len(self.machines):04x}"
            got = self.stock > 0
            self.stock, self.launched = self.stock - got, self.launched + got
            machine = {"group": group, "action": "CREATING", "left": self.boot, "got": got, "labels": {}, "edits": 0}
            self.machines[name] = machine

    def _age(self, group: str) -> None:
        for name, machine in self.of(group).items():
            if machine["action"] == "DELETING":
                del self.machines[name]
                self.stock += machine["got"]
            elif not machine["got"] and self.stock > 0:
                machine["got"], self.stock, self.launched = True, self.stock - 1, self.launched + 1
            elif machine["got"] and machine["left"] > 0:
                machine["left"] -= 1
        for request in self.requests[group].values():
            if request["state"] == "ACCEPTED" and self.stock >= request["resizeBy"]:
                request["state"] = "SUCCEEDED"
                self.groups[group]["targetSize"] += request["resizeBy"]
                self._fill(group)

    def _instanceGroupManagers_get(self, path: Json, query: Json, body: Json) -> Json:
        group = self._group(path)
        self._age(group["name"])
        return group

    def _instanceGroupManagers_listManagedInstances(self, path: Json, query: Json, body: Json) -> Json:
        listed: list[Json] = []
        for name, machine in self.of(self._group(path)["name"]).items():
            shown: Json = {"name": name, "instance": f"https://compute/zones/{path['zone']}/instances/{name}"}
            if machine["action"] == "DELETING":
                shown |= {"currentAction": "DELETING", "instanceStatus": "STOPPING"}
            elif not machine["got"]:
                errors = {"errors": [{"code": EXHAUSTED, "message": LACK}]}
                shown |= {"currentAction": "CREATING", "lastAttempt": {"errors": errors}}
            elif machine["left"] > 0:
                shown |= {"currentAction": "CREATING", "instanceStatus": "STAGING"}
            else:
                machine["action"] = "NONE"
                shown |= {"currentAction": "NONE", "instanceStatus": "RUNNING"}
            listed.append(shown)
        return {"managedInstances": listed}

    def _instanceGroupManagers_resize(self, path: Json, query: Json, body: Json) -> Json:
        group, size = self._group(path), int(query["size"])
        if self.failing:
            status = 503 if "EXHAUSTED" in self.failing else 403 if "FORBIDDEN" in self.failing else 400
            return self._operation(({"code": self.failing, "message": LACK},), status)
        kept = [name for name, machine in self.of(group["name"]).items() if machine["action"] != "DELETING"]
        for name in sorted(kept)[: max(0, len(kept) - size)]:  # it picks arbitrarily, as Google says
            self.machines[name]["action"] = "DELETING"
        group["targetSize"] = size
        self._fill(group["name"])
        return self._operation()

    def _instanceGroupManagers_deleteInstances(self, path: Json, query: Json, body: Json) -> Json:
        group = self._group(path)
        for url in body["instances"]:
            name = re.fullmatch(r"(?:.*/)?zones/[^/]+/instances/([^/]+)", url)
            assert name, f"no URL of an instance: {url}"
            machine = self.of(group["name"]).get(name[1])
            if machine is None or machine["action"] == "DELETING":
                if not body.get("skipInstancesOnValidationError"):
                    raise RefusedError(400, "invalid", f"{name[1]} is no member of the group, or is being deleted")
                continue
            machine["action"] = "DELETING"
            group["targetSize"] -= 1
        return self._operation()

    def _instanceGroupManagerResizeRequests_list(self, path: Json, query: Json, body: Json) -> Json:
        return {"items": [] if self.lags else list(self.requests[self._group(path)["name"]].values())}

    def _instanceGroupManagerResizeRequests_insert(self, path: Json, query: Json, body: Json) -> Json:
        requests = self.requests[self._group(path)["name"]]
        if body["name"] in requests:
            raise RefusedError(409, "alreadyExists", f"The resource 'resizeRequests/{body['name']}' already exists")
        if not 600 <= int(body["requestedRunDuration"]["seconds"]) <= 7 * 86400:
            raise RefusedError(400, "invalid", "requestedRunDuration must be from 10 minutes to 7 days")
        requests[body["name"]] = {**body, "state": "ACCEPTED"}
        return self._operation()

    def _instanceGroupManagerResizeRequests_cancel(self, path: Json, query: Json, body: Json) -> Json:
        request = self.requests[self._group(path)["name"]][path["resizeRequest"]]
        if request["state"] != "ACCEPTED":
            raise RefusedError(412, "conditionNotMet", "only a request that waits can be cancelled")
        request["state"] = "CANCELLED"
        return self._operation()

    def _shown(self, name: str) -> Json:
        machine = self.machines[name]
        return {"name": name, "labels": machine["labels"], "labelFingerprint": f"e{machine['edits']}"}

    def _instances_list(self, path: Json, query: Json, body: Json) -> Json:
        label = re.fullmatch(r"labels\.([a-z0-9_-]+):\*", query["filter"])
        assert label, "the one filter that is played"
        return {"items": [self._shown(name) for name, each in self.machines.items() if label[1] in each["labels"]]}

    def _instances_get(self, path: Json, query: Json, body: Json) -> Json:
        return self._shown(path["instance"])

    def _instances_setLabels(self, path: Json, query: Json, body: Json) -> Json:
        machine = self.machines[path["instance"]]
        if body.get("labelFingerprint") != f"e{machine['edits']}":
            raise RefusedError(
                412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed"
            )
        assert all(re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", name) for name in body.get("labels", {}))
        machine["labels"], machine["edits"] = body.get("labels", {}), machine["edits"] + 1
        return self._operation()
