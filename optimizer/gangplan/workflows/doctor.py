"""Looks at everything that a plan needs on its way to the engines, and says what is wrong and what helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gangplan import execute, plan, tracking  # each loads what it needs when it is asked: an image may lack it
from gangplan.config import Settings, read_fleet
from gangplan.errors import GangplanError, InputError, NotFoundError
from gangplan.kube import connect
from gangplan.reserve import BAD, GOOD, NOTE, Finding, examine, open_ledger, parse_url
from gangplan.urls import shown, sqlite_file


def examine_all(load: Callable[[], Settings]) -> list[Finding]:
    """Look at settings, store, plan, ledger, fleet, targets.yaml on its engines, and power; no step is taken.

    What cannot be looked at is a finding itself, and keeps nothing else from being looked at.
    """
    try:
        settings = load()
    except InputError as error:
        return [wrong("settings", error)]
    home = Finding(level=GOOD, what="settings", said=f"home is {settings.home.resolve()}")
    return [home, *examine_some(settings, "MLflow", "ledger", "fleet", "targets.yaml", "power")]


def examine_some(settings: Settings, *whats: str) -> list[Finding]:
    """Look at these things alone: MLflow, ledger, fleet, targets.yaml, power."""
    looks = {"MLflow": _store, "ledger": _ledger, "fleet": _fleet, "targets.yaml": _targets, "power": _power}
    found: list[Finding] = []
    for what in whats:
        try:
            found += looks[what](settings)
        except GangplanError as error:
            found.append(wrong(what, error))
    return found


def check_targets(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return by engine of targets.yaml what would keep plans from being carried out there; no plan is needed.

    Raises
    ------
    InputError
        The fleet file or targets.yaml is wrong.
    """
    fleet, file = read_fleet(settings.fleet_file), settings.targets_file
    targets = execute.targets_of_file(fleet) if file is None else execute.read_targets(file, fleet)
    opening = execute.Opening(targets=targets, fleet=fleet, fleet_file=settings.fleet_file, clock=settings.clock)
    return execute.check_engines(opening)


def wrong(what: str, error: GangplanError) -> Finding:
    """Return the finding about an error; wrong input says what helps after what is wrong."""
    if isinstance(error, InputError):
        remedy = error.remedy.partition(": ")[2]
        said = str(error).removesuffix(f": {remedy}") if remedy else str(error)
        return Finding(level=BAD, what=what, said=said, remedy=remedy)
    return Finding(level=BAD, what=what, said=str(error))


def _store(settings: Settings) -> Iterator[Finding]:
    """The store, and whether a plan holds now."""
    store = tracking.open_store(settings)
    yield Finding(level=GOOD, what="MLflow", said=f"{shown(store.uri)} answers")
    try:
        published = plan.read_published(store)
    except NotFoundError:
        yield Finding(level=NOTE, what="plan", said="none is published yet", remedy="gangplan plan")
        return
    try:
        execute.goals(published, settings.clock())
    except InputError as error:
        yield wrong("plan", error)
        return
    yield Finding(level=GOOD, what="plan", said=f"{published.plan_id} holds now")


def _ledger(settings: Settings) -> Iterator[Finding]:
    """The ledger; of one on Kueue, all that `gangplan kube doctor` looks at."""
    url = settings.ledger_url
    if url.startswith("kueue:"):
        context, place = parse_url(url)
        yield from examine(connect(context), place)
        return
    file = sqlite_file(url)
    if file is not None and not file.exists():
        yield Finding(level=NOTE, what="ledger", said=f"{file} is not there yet", remedy="`gangplan plan` makes it")
        return
    with open_ledger(url, clock=settings.clock) as ledger:
        published = ledger.published()
    slots = f"slots of {published}" if published else "no slots yet: a plan or `gangplan init` gives it some"
    yield Finding(level=GOOD if published else NOTE, what="ledger", said=f"{shown(url)} answers, and has {slots}")


def _fleet(settings: Settings) -> Iterator[Finding]:
    fleet = read_fleet(settings.fleet_file)
    nodes = sum(fleet.nodes.values())
    yield Finding(level=GOOD, what="fleet", said=f"{settings.fleet_file}: {len(fleet.pools)} pools, {nodes} nodes run")


def _targets(settings: Settings) -> Iterator[Finding]:
    """Where pools live, held against what is there; servers, layouts and caps too."""
    file = settings.targets_file
    if file is None:
        where = settings.fleet_file.with_name("targets.yaml")
        remedy = (
            "`gangplan apply` brings the fleet file's nodes to the plan; to carry plans out, write where pools live"
        )
        yield Finding(level=NOTE, what="targets.yaml", said=f"{where} is not there", remedy=remedy)
    elif not settings.fleet_file.exists():
        yield Finding(level=NOTE, what="targets.yaml", said="needs the fleet file, and was not looked at")
        return
    for name, said in check_targets(settings).items() if file else ():
        yield from (Finding(level=BAD, what=name, said=words) for words in said)
        if not said:
            yield Finding(level=GOOD, what=name, said="nothing is in the way of plans")


def _power(settings: Settings) -> Iterator[Finding]:
    """What was measured of caps, and the carbon of grids, where there are such files."""
    if settings.curves_file.exists():
        curves = execute.read_curves(settings.curves_file)
        yield Finding(level=GOOD, what="power", said=f"{settings.curves_file}: {len(curves)} measured curves")
    if settings.carbon_file.exists():
        grids = execute.read_grids(settings.carbon_file)
        yield Finding(level=GOOD, what="carbon", said=f"{settings.carbon_file}: {', '.join(grids)} by the hour")
