"""AWS on this machine: moto behind rules that it lacks.

moto accepts more machines than a group may have, has all of them in service at once, never lacks capacity, tells of no
scaling activities, removes a machine in no time and takes any credentials. Here a group keeps its limits, machines come
and go over some reads, there is only so much stock, and each call is written down with the IAM action that it needs.
"""

from __future__ import annotations

import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder, run_wsgi_app
from werkzeug.wrappers import Request, Response

from gangplan.testing import NOW

SPACE = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
LACK = (
    "Could not launch On-Demand Instances. InsufficientInstanceCapacity - We currently do not have sufficient "
    "p5.48xlarge capacity in the Availability Zone you requested (us-east-1a). Launching EC2 instance failed."
)
Form = dict[str, str]
ET.register_namespace("", SPACE)


@dataclass
class StrictAws:
    """The rules, as a WSGI application.

    `stock` machines can still be bought. One of a group is pending for `boot` reads, and leaves for `leave` reads.
    While EC2 `lags`, it shows no new machines.
    """

    stock: int = 1000
    boot: int = 0
    leave: int = 0
    denied: set[str] = field(default_factory=set[str])
    calls: list[str] = field(default_factory=list[str])
    launched: int = 0
    wanted: dict[str, int] = field(default_factory=dict[str, int])
    activities: dict[str, list[Form]] = field(default_factory=dict[str, list[Form]])
    lags: bool = False
    shown: set[str] = field(default_factory=set[str])
    tokens: dict[str, tuple[Form, bytes]] = field(default_factory=dict[str, tuple[Form, bytes]])
    spot_prices: list[tuple[str, str, str]] = field(default_factory=list[tuple[str, str, str]])
    home: dict[str, str] = field(default_factory=dict[str, str])
    reads: dict[str, int] = field(default_factory=dict[str, int])
    gone: dict[str, list[tuple[str, int]]] = field(default_factory=dict[str, list[tuple[str, int]]])
    moto: Any = field(default_factory=lambda: DomainDispatcherApplication(create_backend_app))
    lock: threading.RLock = field(default_factory=threading.RLock)

    def reset(self) -> None:
        """Forget everything but moto's own state."""
        fresh = StrictAws(moto=self.moto)
        self.__dict__.update(fresh.__dict__)

    def writes(self) -> list[str]:
        """Return the calls that change something."""
        return [call for call in self.calls if not call.split(":")[1].startswith("Describe")]

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        """Answer one call, after the rules of its action."""
        with self.lock:
            request = Request(environ)
            form = {name: str(value) for name, value in request.form.items()}
            service = request.headers.get("Authorization", "").split("/")[3]
            call = f"{service}:{form['Action']}"
            self.calls.append(call)
            if call in self.denied:
                words = f"User: arn:aws:iam::1:user/g is not authorized to perform: {call}"
                return refused("AccessDenied", words, 403)(environ, start)
            rule = getattr(self, f"_{form['Action']}", self._forward)
            return rule(form, request.headers)(environ, start)

    def _forward(self, form: Form, headers: Headers) -> Response:
        """Let moto answer."""
        kept = {name: value for name, value in headers.items() if name not in ("Content-Length", "Content-Type")}
        environ = EnvironBuilder(method="POST", path="/", data=form, headers=kept).get_environ()
        body, status, answered = run_wsgi_app(self.moto, environ)
        return Response(b"".join(body), status=status, headers={"Content-Type": answered["Content-Type"]})

    def _group(self, headers: Headers, name: str) -> ET.Element | None:
        form = {"Action": "DescribeAutoScalingGroups", "Version": "2011-01-01", "AutoScalingGroupNames.member.1": name}
        answer = ET.fromstring(self._forward(form, headers).data)  # noqa: S314 - moto's own
        return next(iter(members(answer, "AutoScalingGroups")), None)

    def _settle(self, name: str, headers: Headers) -> None:
        """Launch what is wanted and in stock; write down what came of it."""
        group = self._group(headers, name)
        if group is None:
            return
        running = len(members(group, "Instances"))
        lacking = self.wanted.setdefault(name, running) - running
        new = min(lacking, self.stock)
        said = self.activities.setdefault(name, [])
        if lacking < 0 or new > 0:
            self._resize(name, running + new, headers)
            if new > 0:
                self.stock, self.launched = self.stock - new, self.launched + new
                said.insert(0, {"StatusCode": "Successful"})
        if lacking > max(new, 0) and not (said and said[0]["StatusCode"] == "Failed"):
            said.insert(0, {"StatusCode": "Failed", "StatusMessage": LACK})

    def _resize(self, name: str, machines: int, headers: Headers) -> Response:
        form = {"Action": "SetDesiredCapacity", "Version": "2011-01-01", "AutoScalingGroupName": name}
        return self._forward(form | {"DesiredCapacity": str(machines)}, headers)

    def _SetDesiredCapacity(self, form: Form, headers: Headers) -> Response:
        name, wanted = form["AutoScalingGroupName"], int(form["DesiredCapacity"])
        group = self._group(headers, name)
        if group is None:
            return refused("ValidationError", "AutoScalingGroup name not found - null")
        for limit, above in (("MaxSize", True), ("MinSize", False)):
            value = int(text(group, limit))
            if (wanted > value) if above else (wanted < value):
                words = (
                    f"New SetDesiredCapacity value {wanted} is {'above max' if above else 'below min'} value {value}"
                )
                return refused("ValidationError", f"{words} for the AutoScalingGroup.")
        self.wanted[name] = wanted
        running = len(members(group, "Instances"))
        self._settle(name, headers)
        return self._resize(name, min(running, wanted) if wanted < running else self._now(name, headers), headers)

    def _now(self, name: str, headers: Headers) -> int:
        group = self._group(headers, name)
        return 0 if group is None else len(members(group, "Instances"))

    def _TerminateInstanceInAutoScalingGroup(self, form: Form, headers: Headers) -> Response:
        machine = form["InstanceId"]
        name = self.home.get(machine, "")
        group = self._group(headers, name) if name else None
        if group is None or machine not in [text(each, "InstanceId") for each in members(group, "Instances")]:
            words = f"Instance Id not found - No managed instance found for instance ID {machine}"
            return refused("ValidationError", words)
        wanted = self.wanted.get(name, int(text(group, "DesiredCapacity"))) - 1
        if wanted < int(text(group, "MinSize")):
            words = f"Currently, desiredSize equals minSize ({wanted + 1}). Terminating instance without"
            return refused("ValidationError", f"{words} replacement will violate group's min size constraint.")
        self.wanted[name], self.stock = wanted, self.stock + 1
        self.gone.setdefault(name, []).append((machine, self.leave))
        return self._forward(form, headers)

    def _DescribeAutoScalingGroups(self, form: Form, headers: Headers) -> Response:
        """Answer what moto has, with what was wanted, and machines that come and go."""
        names = [value for name, value in form.items() if name.startswith("AutoScalingGroupNames.member.")]
        for name in names:
            self._settle(name, headers)
        answer = ET.fromstring(self._forward(form, headers).data)  # noqa: S314 - moto's own
        for group in members(answer, "AutoScalingGroups"):
            self._age(group)
        return Response(ET.tostring(answer), content_type="text/xml")

    def _age(self, group: ET.Element) -> None:
        name = text(group, "AutoScalingGroupName")
        put(group, "DesiredCapacity", str(self.wanted.get(name, text(group, "DesiredCapacity"))))
        machines = group.find(f"{{{SPACE}}}Instances")
        assert machines is not None
        for machine in list(machines):
            self.home[text(machine, "InstanceId")] = name
            seen = self.reads[text(machine, "InstanceId")] = self.reads.get(text(machine, "InstanceId"), -1) + 1
            if seen < self.boot:
                put(machine, "LifecycleState", "Pending")
        self.gone[name] = [(each, left - 1) for each, left in self.gone.get(name, []) if left > 0]
        for each, _ in self.gone[name]:
            machine = ET.SubElement(machines, f"{{{SPACE}}}member")
            fields = {"InstanceId": each, "LifecycleState": "Terminating", "HealthStatus": "Healthy"}
            for field_name, value in (
                fields | {"AvailabilityZone": "us-east-1a", "ProtectedFromScaleIn": "true"}
            ).items():
                ET.SubElement(machine, f"{{{SPACE}}}{field_name}").text = value

    def _DescribeScalingActivities(self, form: Form, headers: Headers) -> Response:
        name = form["AutoScalingGroupName"]
        said = "".join(
            f"<member><ActivityId>{number}</ActivityId><AutoScalingGroupName>{name}</AutoScalingGroupName>"
            f"<Description>Launching a new EC2 instance</Description><Cause>wanted</Cause>"
            f"<StartTime>2026-03-02T09:00:00Z</StartTime>{''.join(f'<{k}>{v}</{k}>' for k, v in each.items())}</member>"
            for number, each in enumerate(self.activities.get(name, []))
        )
        body = f"<DescribeScalingActivitiesResult><Activities>{said}</Activities></DescribeScalingActivitiesResult>"
        answer = f'<DescribeScalingActivitiesResponse xmlns="{SPACE}">{body}</DescribeScalingActivitiesResponse>'
        return Response(answer, content_type="text/xml")

    def _RunInstances(self, form: Form, headers: Headers) -> Response:
        """Launch all that is asked for, or nothing; the same token gets the same answer."""
        token = form["ClientToken"]
        asked = {name: value for name, value in form.items() if name != "Version"}
        if token in self.tokens:
            told, answer = self.tokens[token]
            if told != asked:
                return refused("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent")
            return Response(answer, content_type="text/xml")
        if self.stock < int(form["MinCount"]):
            words = "We currently do not have sufficient p5.48xlarge capacity in the Availability Zone you requested"
            return refused("InsufficientInstanceCapacity", words, 500)
        new = int(form["MaxCount"])
        self.stock, self.launched = self.stock - new, self.launched + new
        answer = self._forward(form, headers)
        self.tokens[token] = (asked, answer.data)
        return answer

    def _TerminateInstances(self, form: Form, headers: Headers) -> Response:
        self.stock += sum(name.startswith("InstanceId.") for name in form)
        return self._forward(form, headers)

    def _DescribeInstances(self, form: Form, headers: Headers) -> Response:
        """Answer what moto has, without the newest machines while it lags."""
        answer = ET.fromstring(self._forward(form, headers).data)  # noqa: S314 - moto's own
        space = answer.tag.partition("}")[0] + "}"
        for machines in answer.iter(f"{space}instancesSet"):
            for machine in list(machines):
                if machine.findtext(f"{space}instanceId") not in self.shown and self.lags:
                    machines.remove(machine)
                else:
                    self.shown.add(machine.findtext(f"{space}instanceId") or "")
                    launched = machine.find(f"{space}launchTime")
                    assert launched is not None
                    launched.text = NOW.isoformat()
        return Response(ET.tostring(answer), content_type="text/xml")

    def _DescribeSpotPriceHistory(self, form: Form, headers: Headers) -> Response:
        """Tell the prices that a test set, as (zone, moment, price)."""
        said = "".join(
            f"<item><instanceType>{form['InstanceType.1']}</instanceType><spotPrice>{price}</spotPrice>"
            f"<availabilityZone>{zone}</availabilityZone><timestamp>{at}</timestamp></item>"
            for zone, at, price in self.spot_prices
        )
        space = "http://ec2.amazonaws.com/doc/2016-11-15/"
        answer = f'<DescribeSpotPriceHistoryResponse xmlns="{space}"><spotPriceHistorySet>{said}</spotPriceHistorySet>'
        return Response(f"{answer}</DescribeSpotPriceHistoryResponse>", content_type="text/xml")


def refused(code: str, words: str, status: int = 400) -> Response:
    """Return AWS' answer to a call that it refuses."""
    error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{words}</Message></Error>"
    return Response(f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>", status, content_type="text/xml")


def members(parent: ET.Element, name: str) -> list[ET.Element]:
    """Return the members of a list that a group, or an answer, has."""
    found = next(parent.iter(f"{{{SPACE}}}{name}"), None)
    return [] if found is None else list(found)


def text(parent: ET.Element, name: str) -> str:
    """Return a field of a group or a machine."""
    return parent.findtext(f"{{{SPACE}}}{name}") or ""


def put(parent: ET.Element, name: str, value: str) -> None:
    """Set a field of a group or a machine."""
    found = parent.find(f"{{{SPACE}}}{name}")
    assert found is not None
    found.text = value
